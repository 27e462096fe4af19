import pytest
from mmengine.config import ConfigDict

from mmlocalmamba.engine.data_check.maps import backbone_maps
from mmlocalmamba.engine.data_check.sliding import sliding_windows


def said(cfg) -> str:
    return '\n'.join(finding.text for finding in backbone_maps(cfg))


def test_the_number_of_maps_is_compared_with_the_neck(demo, complaint) -> None:
    text = complaint(demo('mask_rcnn', model__backbone__out_indices=(1, 2, 3)))
    assert 'model.neck.in_channels=[32, 64, 128, 256] is for 4 maps, but the backbone gives 3' in text
    assert 'model.backbone.out_indices=(1, 2, 3)' in text


def test_the_channels_of_our_backbones_are_compared_with_the_neck(demo) -> None:
    cfg = demo('mask_rcnn', model__backbone__arch='tiny')
    assert 'set model.neck.in_channels=[96, 192, 384, 768]' in said(cfg)


def test_heads_without_a_neck_are_compared_map_by_map(demo) -> None:
    assert said(demo('upernet')) == ''
    cfg = demo('upernet', model__auxiliary_head__in_channels=7, model__decode_head__in_index=[0, 1, 2, 4])
    assert 'model.auxiliary_head.in_channels=7, but the maps of the backbone have 128 channels' in said(cfg)
    assert 'model.decode_head.in_index has 4, but the backbone gives 4 maps' in said(cfg)


@pytest.mark.parametrize(
    ('backbone', 'given'),
    [
        (dict(type='ResNet', depth=50), [256, 512, 1024, 2048]),
        (dict(type='ResNet', depth=18, out_indices=(0, 1, 2, 3)), [64, 128, 256, 512]),
        (dict(type='SwinTransformer', embed_dims=96), [96, 192, 384, 768]),
        (dict(type='mmlocalmamba.LocalVim', arch='tiny'), [192, 192, 192, 192]),
        (dict(type='mmlocalmamba.VMamba', arch='tiny'), [96, 192, 384, 768]),
    ],
)
def test_channels_of_backbones(backbone, given, demo) -> None:
    cfg = demo('mask_rcnn')
    cfg.model.backbone = ConfigDict(backbone)
    cfg.model.neck.in_channels = given
    assert said(cfg) == ''
    cfg.model.neck.in_channels = [1, 2, 3, 4]
    assert f'the maps of the backbone have {given} channels' in said(cfg)


def test_strides_longer_than_the_window_are_named(demo, complaint) -> None:
    text = complaint(demo('upernet', model__test_cfg__mode='slide', model__test_cfg__stride=(128, 200)))
    assert 'model.test_cfg.stride=(128, 200) is more than model.test_cfg.crop_size=(128, 128)' in text


def test_sliding_needs_both_sizes(demo) -> None:
    cfg = demo('upernet', model__test_cfg__mode='slide')
    assert list(sliding_windows(cfg)) == []
    del cfg.model.test_cfg.stride
    (finding,) = sliding_windows(cfg)
    assert 'needs model.test_cfg.stride=(height, width)' in finding.text
