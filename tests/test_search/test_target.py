from pathlib import Path

import pytest
from mmengine.config import Config

from mmlocalmamba.engine.cli import load_config, make_parser
from mmlocalmamba.search.target import keep_data

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


def read(name: str, *options: str) -> Config:
    return load_config(make_parser('test').parse_args([str(CONFIGS / name), '--cfg-options', *options]))


def test_a_classifier_keeps_its_own_schedule_and_takes_the_data() -> None:
    search = read('search/local_vim_search_sampled.py', 'data_root=mine', 'num_classes=2')
    target = Config.fromfile(CONFIGS / 'imagenet/local_vim_t.py')

    said = keep_data(target, search)

    assert {target[f'{split}_dataloader'].dataset.data_root for split in ('train', 'val', 'test')} == {'mine'}
    assert (target.model.head.num_classes, target.model.data_preprocessor.num_classes) == (2, 2)
    assert target.train_cfg.max_epochs == 300
    assert target.data_root == 'mine'
    assert "The target has the search's data (mine) and 2 classes" in said


def test_a_detector_takes_files_and_classes() -> None:
    search = read('search/mask_rcnn_localvmamba_micro_shapes_search.py', 'data_root=mine')
    target = Config.fromfile(CONFIGS / 'mask_rcnn_localvmamba_t_1x.py')
    pipeline = target.train_dataloader.dataset.pipeline

    keep_data(target, search)

    wanted, found = search.train_dataloader.dataset, target.train_dataloader.dataset
    for key in ('data_root', 'ann_file', 'data_prefix', 'metainfo'):
        assert found[key] == wanted[key], key
    assert found.pipeline == pipeline
    assert target.val_evaluator.ann_file == search.val_evaluator.ann_file == 'mine/annotations/instances_val.json'
    assert target.model.roi_head.bbox_head.num_classes == target.model.roi_head.mask_head.num_classes == 6


@pytest.mark.parametrize('name', ['mask_rcnn_localvmamba_t_1x.py', 'upernet_localvim_t_160k_ade20k.py'])
def test_another_task_keeps_its_data(name) -> None:
    target = Config.fromfile(CONFIGS / name)
    before = target.to_dict()

    said = keep_data(target, read('search/local_vim_search_sampled.py', 'data_root=mine', 'num_classes=2'))

    assert 'keeps its own data' in said
    assert target.to_dict() == before
