"""Every config trains one step and is evaluated, on generated images and at an eighth of its input's size."""

from pathlib import Path

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub

import mmlocalmamba  # noqa: F401
from mmlocalmamba.engine.channel_check import check_channels
from mmlocalmamba.engine.cli import build_runner
from mmlocalmamba.engine.data_check import check_data
from mmlocalmamba.models.backbones.base import ScanBackbone

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
DENSE = sorted(
    str(path.relative_to(CONFIGS))
    for pattern in (
        '*.py',
        'multispectral/*.py',
        'cross/*.py',
        'demo/*_shapes.py',
        'baselines/*mask_rcnn*.py',
        'baselines/upernet*.py',
    )
    for path in CONFIGS.glob(pattern)
)
OUR_UPERNETS = [name for name in DENSE if 'upernet' in name and '_s_' not in name and 'baselines' not in name]


@pytest.mark.slow
@pytest.mark.parametrize('name', DENSE)
def test_a_config_trains_and_is_evaluated(name, one_step_config):
    cfg = one_step_config(name)
    check_data(cfg, ['train', 'val', 'test'])
    check_channels(cfg)
    runner = build_runner(cfg)
    backbone = runner.model.backbone
    trained = {key: value for key, value in backbone.named_parameters() if value.requires_grad}
    before = {key: value.detach().clone() for key, value in trained.items()}
    runner.train()
    scalars = MessageHub.get_current_instance().log_scalars
    assert torch.isfinite(torch.tensor(scalars['train/loss'].current()))
    unmoved = [key for key, value in trained.items() if torch.equal(value, before[key])]
    if isinstance(backbone, ScanBackbone):
        assert not unmoved
    else:  # untrained, those of others scale their blocks by 0 or 1e-6, so that little gradient arrives inside
        assert len(unmoved) < len(trained)
    metrics = {key for key in scalars if key.startswith('val/')}
    wanted = {'val/mIoU'} if cfg.default_scope == 'mmseg' else {'val/coco/bbox_mAP'}
    if cfg.default_scope == 'mmdet' and 'segm' in cfg.val_evaluator.metric:
        wanted.add('val/coco/segm_mAP')
    assert wanted <= metrics


@pytest.mark.slow
@pytest.mark.parametrize('name', OUR_UPERNETS)
def test_segmentation_can_be_tested_at_several_scales(name, one_step_config):
    cfg = one_step_config(name)
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.test_dataloader.dataset.indices = 1
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    assert 'mIoU' in build_runner(cfg).test()


@pytest.mark.slow
@pytest.mark.parametrize('name', OUR_UPERNETS)
def test_segmentation_can_be_tested_in_sliding_windows(name, one_step_config):
    cfg = one_step_config(name)
    cfg.merge_from_dict({'model.test_cfg.mode': 'slide'})
    cfg.test_dataloader.dataset.indices = 1
    assert 'mIoU' in build_runner(cfg).test()
