"""Every config after its bases are merged: nothing is left of other models, nothing is misspelt, nothing forgotten."""

import inspect
from functools import cache
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

import mmlocalmamba  # noqa: F401
from mmlocalmamba import models

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
ALL = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.glob('**/*.py') if '_base_' not in path.parts)
TEXTURES = ('demo/textures_fixed.py', 'demo/textures_search.py')
OTHERS = {'depth', 'depths', 'num_stages', 'embed_dims', 'num_heads', 'window_size', 'norm_eval', 'style'}
"""Settings of ResNet, Swin and ViT backbones. ``depths`` are ours too, but inside ``arch``."""

THEIRS = {
    'mmdet.SwinTransformer': [96, 192, 384, 768],
    'mmlocalmamba.ConvNeXt': [96, 192, 384, 768],
    'ResNet': [256, 512, 1024, 2048],
    'ResNetV1c': [256, 512, 1024, 2048],
}
"""Backbones to compare with, and the channels of their maps in the sizes that there are configs for."""

OURS = {'directions', 'd_state', 'attn', 'spatial_attn', 'out_norm', 'out_type', 'img_size', 'search'}

VARIABLES = {
    'attention',
    'bbox_heads',
    'candidates',
    'crop_size',
    'custom_imports',
    'data_root',
    'dataset_type',
    'ffn',
    'image_size',
    'matched_losses',
    'max_epochs',
    'max_iters',
    'meta_keys',
    'metainfo',
    'norm_cfg',
    'num_classes',
    'pretrained',
    'rcnn_stages',
    'scales',
    'test_pipeline',
    'train_pipeline',
    'tta_model',
    'tta_pipeline',
    'vis_backends',
}
"""What a config may define beside the arguments of MMEngine's Runner, for itself or for tools/test.py."""


@cache
def read(name):
    """Give a config, for looking at only."""
    return Config.fromfile(CONFIGS / name)


def test_every_config_is_looked_at():
    assert len(ALL) > 60
    assert {'mask_rcnn_localvmamba_t_1x.py', 'imagenet/local_vim_s.py', *TEXTURES} <= set(ALL)


@pytest.mark.parametrize('name', ALL)
def test_the_backbone_has_no_other_backbones_settings(name):
    model = read(name).model
    backbone = dict(model.backbone)
    kind = backbone.pop('type')
    assert 'pretrained' not in model  # MMSegmentation passes it on to the backbone
    if kind in THEIRS:
        assert 'baselines' in name
        assert not set(backbone) & OURS
        return
    accepted = set(inspect.signature(getattr(models, kind.split('.')[1])).parameters)
    assert not accepted & OTHERS
    assert set(backbone) <= accepted
    if not isinstance(backbone.get('arch', 'tiny'), str):
        wanted = {'dims', 'depths'} if kind.endswith('LocalVMamba') else {'embed_dim', 'depth'}
        assert set(backbone['arch']) == wanted | {'directions'}


@pytest.mark.parametrize('name', ALL)
def test_no_key_is_unknown(name):
    runner = set(inspect.signature(Runner).parameters) | {'auto_scale_lr'}
    assert set(read(name)) <= runner | VARIABLES


@pytest.mark.parametrize('name', ALL)
def test_gradients_are_clipped(name):
    assert read(name).optim_wrapper.clip_grad.max_norm > 0


@pytest.mark.parametrize('name', sorted(set(ALL) - set(TEXTURES)))
def test_the_batch_that_the_learning_rate_is_for_is_stated(name):
    cfg = read(name)
    base, images = cfg.auto_scale_lr.base_batch_size, cfg.train_dataloader.batch_size
    assert base == (images if 'shapes' in name else 8 * images)
    assert not cfg.auto_scale_lr.get('enable', False)


def output_channels(backbone):
    """Give the channels of the maps of a backbone's settings, from its class's table of sizes."""
    if backbone.type in THEIRS:
        return THEIRS[backbone.type]
    kind = getattr(models, backbone.type.split('.')[1])
    arch = kind.arch_zoo[backbone.arch] if isinstance(backbone.arch, str) else backbone.arch
    indices = backbone.get('out_indices') or inspect.signature(kind).parameters['out_indices'].default
    if 'dims' in arch:
        return [arch['dims'][index] for index in indices]
    return [arch['embed_dim']] * len(indices)


@pytest.mark.parametrize('name', ALL)
def test_neck_and_heads_take_the_channels_that_the_backbone_gives(name):
    model = read(name).model
    channels = output_channels(model.backbone)
    parts = ['neck'] if 'neck' in model else ['decode_head', 'auxiliary_head', 'panoptic_head', 'head']
    parts = [model[part] for part in parts if part in model]
    assert parts
    for part in parts:
        wanted = part.in_channels
        if isinstance(wanted, list):
            assert wanted == channels
        else:
            assert wanted == channels[part.get('in_index', -1)]


@pytest.mark.parametrize('name', ALL)
def test_mixed_precision_is_where_the_readme_says(name):
    cfg = Config.fromfile(CONFIGS / name)
    demo = name.startswith('demo/') or '_micro_' in name
    in_float32 = demo or cfg.default_scope == 'mmseg' or 'mask2former' in name

    assert cfg.optim_wrapper.type == ('OptimWrapper' if in_float32 else 'AmpOptimWrapper')


def test_the_readme_says_where_mixed_precision_is():
    text = ' '.join((CONFIGS.parent / 'README.md').read_text(encoding='utf-8').split())

    assert (
        'the recipes for R-CNNs, RetinaNet and ImageNet do so already; those for segmentation (as published), '
        'Mask2Former and the demos train in float32.'
    ) in text


@pytest.mark.parametrize('name', ALL)
def test_weight_decay_is_left_to_the_constructor(name):
    """What has none is said in one place, mmlocalmamba/engine/layer_decay.py."""
    wrapper = Config.fromfile(CONFIGS / name).optim_wrapper

    assert 'decay_mult' not in str(wrapper)
    if wrapper.optimizer.weight_decay:
        assert wrapper.constructor == 'mmlocalmamba.LayerDecayOptimWrapperConstructor'
