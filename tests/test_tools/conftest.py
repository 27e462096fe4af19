import importlib.util
import json
import logging
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import mmlocalmamba  # noqa: F401  before mmdet

ROOT = Path(__file__).resolve().parents[2]


def load_tool(name: str) -> ModuleType:
    """Import a file of tools/, which is no package."""
    spec = importlib.util.spec_from_file_location(f'tool_{name}', ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tool():
    return load_tool


@pytest.fixture
def model_state():
    """Give the tensors of an untrained model, by the path of its config."""

    def state(config: Path) -> dict:
        from mmengine.config import Config
        from mmengine.registry import MODELS, init_default_scope

        cfg = Config.fromfile(config)
        init_default_scope(cfg.default_scope)
        return MODELS.build(cfg.model).state_dict()

    return state


@pytest.fixture(autouse=True)
def clean_process(tmp_path, monkeypatch) -> Iterator[None]:
    """Start in an empty folder; undo what a tool sets for its process."""
    from mmlocalmamba.compat.torch_load import FORCE_SAFE

    monkeypatch.chdir(tmp_path)
    before = {name: os.environ.pop(name, None) for name in (FORCE_SAFE, 'LOCAL_RANK')}
    logger = logging.getLogger('mmlocalmamba')
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    yield
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    logger.handlers[:], logger.level, logger.propagate = handlers, level, propagate


@pytest.fixture
def det_config(tmp_path) -> Path:
    """A Mask R-CNN config file with two epochs over four small images."""
    make_coco(tmp_path / 'data/coco', count=4)
    path = tmp_path / 'mask_rcnn_tiny.py'
    path.write_text(DET_CONFIG.replace('{mmdet}', str(Path(find_spec('mmdet').origin).parent)))
    return path


@pytest.fixture
def seg_config(tmp_path) -> Path:
    """An FCN config file with two iterations over four small images."""
    make_ade(tmp_path / 'data/ade', count=4)
    path = tmp_path / 'fcn_tiny.py'
    path.write_text(SEG_CONFIG)
    return path


@pytest.fixture
def detector(det_config, model_state) -> list[str]:
    """Arguments that name an untrained detector."""
    return _arguments(det_config, model_state, 'det.pth')


@pytest.fixture
def segmenter(seg_config, model_state) -> list[str]:
    """Arguments that name an untrained segmenter."""
    return _arguments(seg_config, model_state, 'seg.pth')


def _arguments(config: Path, model_state, checkpoint: str) -> list[str]:
    torch.manual_seed(0)
    torch.save({'state_dict': model_state(config)}, checkpoint)
    return ['--config', str(config), '--checkpoint', checkpoint, '--device', 'cpu']


def make_coco(root: Path, count: int) -> None:
    """Write images with one bright rectangle each, in COCO's layout."""
    import cv2

    (root / 'annotations').mkdir(parents=True)
    (root / 'images').mkdir()
    images, annotations = [], []
    for index in range(count):
        x, y, width, height = 8 + index, 10, 40, 36
        image = np.random.randint(0, 60, (64, 96, 3), dtype=np.uint8)
        image[y : y + height, x : x + width] = 200
        cv2.imwrite(str(root / f'images/{index}.png'), image)
        images.append({'id': index, 'file_name': f'{index}.png', 'width': 96, 'height': 64})
        annotations.append(
            {
                'id': index + 1,
                'image_id': index,
                'category_id': 1,
                'bbox': [x, y, width, height],
                'area': width * height,
                'iscrowd': 0,
                'segmentation': [[x, y, x + width, y, x + width, y + height, x, y + height]],
            }
        )
    content = {'images': images, 'annotations': annotations, 'categories': [{'id': 1, 'name': 'box'}]}
    (root / 'annotations/instances.json').write_text(json.dumps(content))


def make_ade(root: Path, count: int) -> None:
    """Write images and label maps in ADE20K's layout (0 is no class)."""
    import cv2

    for folder in ('images', 'annotations'):
        (root / folder).mkdir(parents=True)
    for index in range(count):
        labels = np.ones((64, 96), dtype=np.uint8)
        labels[20:50, 20:60] = 2
        cv2.imwrite(str(root / f'images/{index}.jpg'), np.random.randint(0, 256, (64, 96, 3), dtype=np.uint8))
        cv2.imwrite(str(root / f'annotations/{index}.png'), labels)


DET_CONFIG = """
_base_ = ['{mmdet}/.mim/configs/_base_/models/mask-rcnn_r50_fpn.py']
default_scope = 'mmdet'
pretrained = None
model = dict(
    backbone=dict(depth=18, init_cfg=None),
    neck=dict(in_channels=[64, 128, 256, 512]),
    roi_head=dict(bbox_head=dict(num_classes=1), mask_head=dict(num_classes=1)),
    train_cfg=dict(rpn_proposal=dict(max_per_img=20)),
    test_cfg=dict(rpn=dict(max_per_img=20), rcnn=dict(score_thr=0.0, max_per_img=5)),
)
pack = dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))
load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True)]
dataset = dict(
    type='CocoDataset',
    data_root='data/coco',
    ann_file='annotations/instances.json',
    data_prefix=dict(img='images/'),
    metainfo=dict(classes=('box',), palette=[(255, 0, 0)]),
    pipeline=load + [dict(type='Resize', scale=(96, 64), keep_ratio=True), pack],
)
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True), dataset=dataset)
test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset={**dataset, 'test_mode': True},
)
val_dataloader = test_dataloader
test_evaluator = dict(type='CocoMetric', ann_file='data/coco/annotations/instances.json', metric=['bbox', 'segm'])
val_evaluator = test_evaluator
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='AmpOptimWrapper', loss_scale='dynamic', optimizer=dict(type='SGD', lr=0.001))
auto_scale_lr = dict(base_batch_size=16)
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1), visualization=dict(type='DetVisualizationHook', score_thr=0.0))
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='DetLocalVisualizer', vis_backends=vis_backends, name='visualizer')
"""

SEG_CONFIG = """
default_scope = 'mmseg'
norm = dict(type='BN')
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[128.] * 3, std=[64.] * 3, pad_val=0, seg_pad_val=255, size=(64, 96)),
    backbone=dict(type='ResNetV1c', depth=18, norm_cfg=norm),
    decode_head=dict(type='FCNHead', in_channels=512, channels=8, num_convs=1, num_classes=2, norm_cfg=norm),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', reduce_zero_label=True)]
pipeline = load + [dict(type='PackSegInputs')]
dataset = dict(
    type='BaseSegDataset',
    data_root='data/ade',
    data_prefix=dict(img_path='images', seg_map_path='annotations'),
    metainfo=dict(classes=('a', 'b'), palette=[[255, 0, 0], [0, 255, 0]]),
    reduce_zero_label=True,
    pipeline=pipeline,
)
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='InfiniteSampler', shuffle=True), dataset=dataset)
test_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dataset)
test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2)
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.001))
default_hooks = dict(
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2),
    logger=dict(type='LoggerHook', interval=1),
    visualization=dict(type='SegVisualizationHook'),
)
log_processor = dict(by_epoch=False)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends, name='visualizer')
tta_model = dict(type='SegTTAModel')
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='TestTimeAug', transforms=[
        [dict(type='RandomFlip', prob=p, direction='horizontal') for p in (0.0, 1.0)],
        [dict(type='LoadAnnotations', reduce_zero_label=True)],
        [dict(type='PackSegInputs')],
    ]),
]
"""
