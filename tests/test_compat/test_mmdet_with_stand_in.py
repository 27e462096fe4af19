from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

import mmlocalmamba  # noqa: F401  before mmdet


@pytest.fixture
def mask_rcnn():
    """mmdet's own Mask R-CNN, made small, with only the operators of the stand-in."""
    import mmdet
    from mmdet.registry import MODELS

    init_default_scope('mmdet')
    cfg = Config.fromfile(Path(mmdet.__file__).parent / '.mim/configs/_base_/models/mask-rcnn_r50_fpn.py').model
    cfg.backbone.update(depth=18, init_cfg=None)
    cfg.neck.in_channels = [64, 128, 256, 512]
    return MODELS.build(cfg)


def make_inputs() -> dict:
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    masks = np.zeros((2, 64, 80), dtype=np.uint8)
    masks[0, 8:40, 8:40], masks[1, 20:60, 30:70] = 1, 1
    sample = DetDataSample(
        metainfo={'img_shape': (64, 80), 'ori_shape': (64, 80), 'pad_shape': (64, 80), 'scale_factor': (1.0, 1.0)}
    )
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[8.0, 8, 40, 40], [30, 20, 70, 60]]),
        labels=torch.tensor([1, 3]),
        masks=BitmapMasks(masks, 64, 80),
    )
    return {'inputs': [torch.randint(0, 256, (3, 64, 80), dtype=torch.uint8)], 'data_samples': [sample]}


def test_mask_rcnn_trains(mask_rcnn) -> None:
    data = mask_rcnn.data_preprocessor(make_inputs(), training=True)

    losses = mask_rcnn(**data, mode='loss')
    total, values = mask_rcnn.parse_losses(losses)
    total.backward()

    assert {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'loss_mask'} <= values.keys()
    assert all(torch.isfinite(value).all() for value in values.values())
    assert mask_rcnn.neck.lateral_convs[0].conv.weight.grad.abs().sum() > 0
    assert mask_rcnn.roi_head.mask_head.convs[0].conv.weight.grad.abs().sum() > 0


def test_mask_rcnn_predicts(mask_rcnn) -> None:
    mask_rcnn.eval()
    mask_rcnn.test_cfg.rcnn.score_thr = 0.0
    with torch.no_grad():
        (result,) = mask_rcnn.test_step(make_inputs())

    instances = result.pred_instances
    assert 0 < len(instances) <= 100
    assert instances.masks.shape == (len(instances), 64, 80)
    assert (instances.bboxes[:, 2:] >= instances.bboxes[:, :2]).all()
