"""Published files of VMamba and Vim, in backbones, classifiers, detectors and segmenters."""

import functools
import http.server
import sys
import threading
import types

import pytest
import torch
from mmengine.runner.checkpoint import load_checkpoint

from mmlocalmamba.models import ImageClassifier, Vim, VMamba
from mmlocalmamba.models.weights.loading import load_backbone
from mmlocalmamba.ops.backends import ENVIRONMENT_VARIABLE, available_backends
from mmlocalmamba.registry import MODELS

from .backwards import first_vmamba, published_vim, published_vmamba
from .parity import published_shapes

TOLERANCE = 1e-4
SIZES = dict(dims=(8, 16, 24, 32), depths=(1, 1, 2, 1))
ARCHS = {
    'vanilla': dict(SIZES, kind='vanilla', ssm_ratio=2.0),
    'v2': dict(SIZES, kind='v2', ssm_ratio=1.0),
    'v2 of ratio 2': dict(SIZES, kind='v2', ssm_ratio=2.0),
}
VIM = dict(type='mmlocalmamba.Vim', arch=dict(embed_dim=16, depth=2), img_size=24, patch_size=8)


@pytest.fixture(params=['cpu', 'chunked', 'reference'])
def backend(request, monkeypatch):
    reason = available_backends()[request.param]
    if reason is not None:
        pytest.skip(reason)
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, request.param)


def config(meta):
    """Give the backbone's config, the head's channels and norm, by what the reference says of its model."""
    if 'embed_dim' in meta:
        arch = {key: meta[key] for key in ('embed_dim', 'depth')}
        return dict(type='mmlocalmamba.Vim', arch=arch, img_size=meta['img_size']), meta['embed_dim'], 'RMSNorm'
    kind = 'v2' if meta['mlp_ratio'] else 'vanilla'
    arch = dict({key: meta[key] for key in ('dims', 'depths', 'ssm_ratio')}, kind=kind)
    return dict(type='mmlocalmamba.VMamba', arch=arch), meta['dims'][-1], 'LN'


def classifier(backbone, channels, norm, classes=10):
    choice = dict(out_type='cls_token') if norm == 'RMSNorm' else {}
    head = dict(type='mmlocalmamba.ClassificationHead', in_channels=channels, num_classes=classes, norm=norm)
    return ImageClassifier(dict(backbone, out_indices=(-1,), out_norm=False, **choice), head)


@pytest.mark.parametrize('saved', [False, True])
@pytest.mark.parametrize('name', ['vmamba_v0_micro', 'vmamba_v2_micro', 'vim_micro'])
def test_the_published_codes_outputs_are_met(name, saved, backend, shared_dir, tmp_path):
    data = torch.load(shared_dir / 'reference' / f'{name}.pt', weights_only=True)
    cfg, channels, norm = config(data['meta'])
    model = classifier(cfg, channels, norm).eval()
    if saved:
        torch.save(dict(model=data['state_dict'], epoch=1), tmp_path / 'published.pth')
        load_checkpoint(model, str(tmp_path / 'published.pth'), map_location='cpu', strict=True)
    else:
        model.load_state_dict(data['state_dict'])
    with torch.no_grad():
        assert (model(data['image']) - data['logits']).abs().max() <= TOLERANCE
    if 'features' not in data:
        return
    backbone = MODELS.build(cfg).eval()
    if saved:
        load_backbone(backbone, tmp_path / 'published.pth')
    else:
        backbone.load_state_dict(data['state_dict'])
    with torch.no_grad():
        for output, expected in zip(backbone(data['image']), data['features'], strict=True):
            assert (output - expected).abs().max() <= TOLERANCE


@pytest.mark.parametrize('name', ['vmamba_v0_micro', 'vmamba_v2_micro', 'vim_micro'])
def test_the_fixtures_in_the_repository_have_the_published_names(name, shared_dir):
    data = torch.load(shared_dir / 'reference' / f'{name}.pt', weights_only=True)
    shapes = published_shapes({**data['meta'], **config(data['meta'])[0]}, classes=10)
    assert shapes == {name: tuple(value.shape) for name, value in data['state_dict'].items()}


def assert_same_weights(a, b):
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y), name


def randomise(model):
    for parameter in model.parameters():
        parameter.data.normal_()
    return model


def whole(model):
    """Give a classifier's tensors as the published code names them."""
    parts = {**model.backbone.state_dict(), **{f'head.{name}': v for name, v in model.head.state_dict().items()}}
    if isinstance(model.backbone, Vim):
        return published_vim(parts)
    return published_vmamba(parts, vanilla=hasattr(model.backbone.patch_embed, 'proj'))


CLASSIFIERS = {
    **{name: (dict(type='mmlocalmamba.VMamba', arch=arch), 32, 'LN') for name, arch in ARCHS.items()},
    'Vim': (VIM, 16, 'RMSNorm'),
}


@pytest.mark.parametrize('name', CLASSIFIERS)
@pytest.mark.parametrize('top', ['model', 'state_dict', None])
def test_a_published_file_fills_a_classifier_and_a_backbone(name, top, tmp_path):
    source, target = (randomise(classifier(*CLASSIFIERS[name])) for _ in range(2))
    state = whole(source)
    torch.save(state if top is None else {top: state, 'epoch': 3}, tmp_path / 'published.pth')
    load_checkpoint(target, str(tmp_path / 'published.pth'), strict=True)
    assert_same_weights(source, target)
    load_backbone(randomise(target.backbone), tmp_path / 'published.pth')
    assert_same_weights(source.backbone, target.backbone)


def test_vmambas_first_names_load_too():
    source, target = (randomise(classifier(*CLASSIFIERS['vanilla'])) for _ in range(2))
    state = first_vmamba(whole(source))
    assert 'layers.0.blocks.0.ln_1.weight' in state
    assert 'layers.0.blocks.0.self_attention.A_logs' in state
    assert {'norm.weight', 'head.weight', 'patch_embed.proj.weight', 'layers.0.downsample.norm.weight'} < set(state)
    target.load_state_dict(state)
    assert_same_weights(source, target)


def test_linear_layers_that_are_saved_as_convolutions_load_too():
    source, target = (randomise(VMamba(arch=ARCHS['v2'])) for _ in range(2))
    state = {
        name: value[..., None, None]
        if name.endswith(('in_proj.weight', 'out_proj.weight', 'fc1.weight', 'fc2.weight'))
        else value
        for name, value in published_vmamba(source.state_dict()).items()
    }
    assert sum(value.shape[2:] == (1, 1) for value in state.values()) == 4 * 5
    target.load_state_dict(state)
    assert_same_weights(source, target)


def test_a_file_with_the_settings_of_its_training_loads_without_yacs(tmp_path, monkeypatch):
    """VMamba's training code saves its yacs config beside the weights."""
    yacs = types.ModuleType('yacs.config')

    class CfgNode(dict):
        pass

    CfgNode.__module__, CfgNode.__qualname__ = 'yacs.config', 'CfgNode'
    yacs.CfgNode = CfgNode
    settings = CfgNode(MODEL=CfgNode(NAME='vssm1_tiny'))
    settings.__dict__['__immutable__'] = True
    source, target = (randomise(VMamba(arch=ARCHS['v2'])) for _ in range(2))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, 'yacs', types.ModuleType('yacs'))
        patch.setitem(sys.modules, 'yacs.config', yacs)
        torch.save(dict(model=published_vmamba(source.state_dict()), config=settings), tmp_path / 'published.pth')
    load_backbone(target, tmp_path / 'published.pth')
    assert_same_weights(source, target)


def test_a_url_loads_as_a_file_does(tmp_path, monkeypatch):
    source, target = (randomise(VMamba(arch=ARCHS['v2'])) for _ in range(2))
    (tmp_path / 'served').mkdir()
    torch.save(dict(model=published_vmamba(source.state_dict())), tmp_path / 'served/vssm.pth')
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'cache'))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / 'served'))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        target.init_cfg = dict(type='Pretrained', checkpoint=f'http://127.0.0.1:{server.server_port}/vssm.pth')
        target.init_weights()
        server.shutdown()
        thread.join()
    assert_same_weights(source, target)


def detector(arch):
    from mmengine.config import Config

    cfg = Config.fromfile('configs/_base_/models/mask_rcnn.py').model
    cfg.backbone = dict(type='mmlocalmamba.VMamba', arch=arch)
    cfg.neck = dict(type='FPN', in_channels=list(arch['dims']), out_channels=8, num_outs=5)
    cfg.rpn_head.update(in_channels=8, feat_channels=8)
    cfg.roi_head.bbox_head.update(in_channels=8, fc_out_channels=8, num_classes=3)
    cfg.roi_head.mask_head.update(in_channels=8, conv_out_channels=8, num_classes=3, num_convs=1)
    cfg.roi_head.bbox_roi_extractor.out_channels = cfg.roi_head.mask_roi_extractor.out_channels = 8
    return build('mmdet', cfg)


def segmenter(arch):
    from mmengine.config import Config

    cfg = Config.fromfile('configs/_base_/models/upernet.py').model
    cfg.backbone = dict(type='mmlocalmamba.VMamba', arch=arch)
    cfg.decode_head.update(in_channels=list(arch['dims']), channels=8, num_classes=3)
    cfg.auxiliary_head.update(in_channels=arch['dims'][2], in_index=2, channels=8, num_classes=3)
    return build('mmseg', cfg)


def build(package, cfg):
    from mmengine.registry import MODELS as MMENGINE_MODELS
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope(package):
        return MMENGINE_MODELS.build(cfg)


@pytest.mark.parametrize('kind', ARCHS)
@pytest.mark.parametrize('make', [detector, segmenter])
def test_a_published_detector_or_segmenter_loads_whole(make, kind, tmp_path, monkeypatch, repo_dir):
    monkeypatch.chdir(repo_dir)
    source, target = (randomise(make(ARCHS[kind])) for _ in range(2))
    backbone = published_vmamba(source.backbone.state_dict(), vanilla=kind == 'vanilla')
    assert {'outnorm0.weight', 'layers.0.blocks.0.op.A_logs', 'patch_embed.0.weight'} < set(backbone)
    rest = {name: value for name, value in source.state_dict().items() if not name.startswith('backbone.')}
    state = rest | {f'backbone.{name}': value for name, value in backbone.items()}
    torch.save(dict(meta=dict(epoch=12), state_dict=state), tmp_path / 'published.pth')
    load_checkpoint(target, str(tmp_path / 'published.pth'), strict=True)
    assert_same_weights(source, target)


def test_a_published_detectors_backbone_starts_a_backbone(tmp_path):
    source, target = (randomise(VMamba(arch=ARCHS['v2'])) for _ in range(2))
    state = {f'backbone.{name}': value for name, value in published_vmamba(source.state_dict()).items()}
    torch.save(dict(state_dict={**state, 'neck.weight': torch.ones(1)}), tmp_path / 'published.pth')
    load_backbone(target, tmp_path / 'published.pth')
    assert_same_weights(source, target)


def test_a_missing_tensor_of_one_direction_is_named():
    model = Vim(arch=VIM['arch'], img_size=24, patch_size=8, out_indices=(1,))
    state = published_vim(model.state_dict())
    del state['layers.1.mixer.A_b_log']
    with pytest.raises(ValueError, match=r'layers\.1\.mixer\.A_log is \(32, 16\), want \(2, 32, 16\)'):
        model.load_state_dict(state)


@pytest.mark.parametrize(('given', 'wanted'), [('vanilla', 'v2'), ('v2', 'vanilla'), ('v2 of ratio 2', 'v2')])
def test_another_generation_is_refused(given, wanted):
    state = published_vmamba(VMamba(arch=ARCHS[given]).state_dict(), vanilla=given == 'vanilla')
    with pytest.raises(ValueError, match='does not fit this VMamba'):
        VMamba(arch=ARCHS[wanted]).load_state_dict(state)
