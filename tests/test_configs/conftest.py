from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

# The mm packages are imported where they are used: pytest loads this file even where there are none.
if TYPE_CHECKING:
    from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2]
SIZES = ('scale', 'scales', 'crop_size', 'size')
SHRINK = 8


@pytest.fixture(scope='session')
def small_data(tmp_path_factory) -> Path:
    """A folder with data/coco, data/ade, data/shapes and data/multispectral, all made of a few generated images."""
    from mmlocalmamba.datasets.shapes import write_shapes

    root = tmp_path_factory.mktemp('small_data')
    write_shapes(root / 'data/shapes', {'train': 4, 'val': 2})
    write_shapes(root / 'data/multispectral', {'train': 4, 'val': 2}, bands=13)
    for split, count in {'train': 4, 'val': 2}.items():
        write_coco_and_ade(root / 'data', split, count)
    return root


def write_coco_and_ade(data: Path, split: str, count: int) -> None:
    """Write shapes as if they were of the first classes of COCO and ADE20K."""
    import cv2
    from mmdet.datasets import CocoDataset

    from mmlocalmamba.datasets.shapes import SPLITS, coco_annotation, make_sample

    names = CocoDataset.METAINFO['classes']
    folders = {
        'coco': data / f'coco/{split}2017',
        'ade': data / f'ade/ADEChallengeData2016/images/{SPLITS[split]}',
        'masks': data / f'ade/ADEChallengeData2016/annotations/{SPLITS[split]}',
        'annotations': data / 'coco/annotations',
    }
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    categories = [{'id': i + 1, 'name': name} for i, name in enumerate(names)]
    content = {'images': [], 'annotations': [], 'categories': categories}
    for index in range(count):
        sample = make_sample(np.random.default_rng([7, len(split), index]))
        name = f'{index:012d}'
        cv2.imwrite(str(folders['coco'] / f'{name}.jpg'), sample.image)
        cv2.imwrite(str(folders['ade'] / f'{name}.jpg'), sample.image)
        cv2.imwrite(str(folders['masks'] / f'{name}.png'), sample.semantic_mask())
        height, width = sample.image.shape[:2]
        content['images'].append({'id': index, 'file_name': f'{name}.jpg', 'height': height, 'width': width})
        for i in sample.annotated:
            number = len(content['annotations']) + 1
            content['annotations'].append(coco_annotation(sample.masks[i], sample.labels[i], index, number))
    (folders['annotations'] / f'instances_{split}2017.json').write_text(json.dumps(content))


@pytest.fixture
def one_step_config(small_data, tmp_path, monkeypatch):
    """Give a config by its name, cut down to one training step and one evaluation, at an eighth of the input's size."""
    from mmengine.config import Config

    from mmlocalmamba.engine.device import fit_precision

    monkeypatch.chdir(small_data)

    def load(name: str) -> Config:
        cfg = Config.fromfile(ROOT / 'configs' / name)
        cfg.work_dir, cfg.launcher = str(tmp_path), 'none'
        if 'demo' not in name:
            shrink_inputs(cfg)
        cfg.model.backbone.init_cfg = None
        if 'drop_path_rate' in cfg.model.backbone:
            cfg.model.backbone.drop_path_rate = 0.0  # a dropped block would have no gradient
        cfg.param_scheduler = None  # warm-up would make the step too small to see
        cfg.default_hooks.checkpoint = None
        cfg.default_hooks.logger.interval = 1
        for split in ('train', 'val', 'test'):
            loader = cfg[f'{split}_dataloader']
            loader.num_workers, loader.persistent_workers = 0, False
            loader.batch_size = min(loader.batch_size, 2)
            loader.dataset.indices = 2
        if cfg.train_cfg.type == 'EpochBasedTrainLoop':
            cfg.train_cfg.max_epochs = cfg.train_cfg.val_interval = 1
        else:
            cfg.train_cfg.max_iters = cfg.train_cfg.val_interval = 1
        keep_untrained_predictions(cfg.model.test_cfg)
        spare_proposals(cfg.model)
        fit_precision(cfg)
        return cfg

    return load


def shrink_inputs(cfg: Config) -> None:
    """Divide every size in pipelines and model by SHRINK."""
    loaders = [cfg[f'{split}_dataloader'].dataset.pipeline for split in ('train', 'val', 'test')]
    for part in [*loaders, cfg.get('tta_pipeline', []), cfg.model.data_preprocessor, cfg.model.test_cfg]:
        _shrink(part)


def _shrink(node: object) -> None:
    if isinstance(node, dict):
        for key, value in node.items():
            is_size = key in (*SIZES, 'stride') and isinstance(value, (list, tuple))
            if is_size or (key == 'pad_size_divisor' and value > 32):  # a whole image's size, not a stride
                node[key] = _divide(value)
            else:
                _shrink(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            _shrink(value)


def _divide(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return type(value)(_divide(v) for v in value)
    return max(value // SHRINK, 1)


def keep_untrained_predictions(test_cfg: dict) -> None:
    """Let a detector report a few boxes whatever their scores, so that there is something to evaluate."""
    for settings in (test_cfg, test_cfg.get('rcnn', {})):
        if 'score_thr' in settings:
            settings.update(score_thr=0.0, max_per_img=5)


def spare_proposals(model: dict) -> None:
    """Make the heads on regions look at few of them."""
    train_cfg, test_cfg = model.train_cfg, model.test_cfg
    if 'rpn_proposal' not in train_cfg:
        return
    train_cfg.rpn_proposal.max_per_img = test_cfg.rpn.max_per_img = 20
    for stage in train_cfg.rcnn if isinstance(train_cfg.rcnn, list) else [train_cfg.rcnn]:
        stage.sampler.num = 16
