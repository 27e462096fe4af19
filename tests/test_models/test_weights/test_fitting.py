"""However weights come into a backbone, the same happens to them."""

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from mmengine.runner.checkpoint import load_checkpoint, load_state_dict
from torch import nn

from mmlocalmamba.models import ClassificationHead, ImageClassifier, LocalVim, LocalVMamba

VMAMBA = dict(dims=(8, 16), depths=(1, 1), directions=[['h', 'w2'], ['v', 'h_flip']])
VIM = dict(embed_dim=16, depth=2, directions=[['h', 'w2'], ['v', 'h_flip']])
NAME = 'stages.1.blocks.0.mixer.A_log'


def vmamba(**kwargs):
    return LocalVMamba(**{**dict(arch=VMAMBA, out_indices=(0, 1), d_state=4), **kwargs})


def vim(**kwargs):
    return LocalVim(**{**dict(arch=VIM, img_size=32, patch_size=8, out_indices=(0, 1), d_state=4), **kwargs})


def published(backbone):
    """Rename a backbone's tensors to what the published code calls them."""
    if isinstance(backbone, LocalVMamba):
        return {
            published_vmamba_name(name): value.flatten(0, 1) if name.endswith(('.A_log', '.D')) else value
            for name, value in backbone.state_dict().items()
        }
    state = {}
    for name, value in backbone.state_dict().items():
        mixer, _, parameter = name.rpartition('.')
        if not mixer.endswith('.mixer'):
            state[name.replace('.merge.attn.', '.attn.')] = value
            continue
        layer, dot, kind = parameter.replace('_weight', '.weight').replace('_bias', '.bias').partition('.')
        for k, part in enumerate(value):
            conv = layer == 'conv' and kind == 'weight'
            state[f'{mixer}.{layer.replace("conv", "conv1d")}_{k}{dot}{kind}'] = part[:, None] if conv else part
    return state


def published_vmamba_name(name):
    for ours, theirs in (
        ('patch_embed.proj', 'patch_embed.0'),
        ('patch_embed.norm', 'patch_embed.2'),
        ('stages.', 'layers.'),
        ('.mixer.merge.attn.', '.op.multi_scan.attn.'),
        ('.mixer.dt_proj_', '.op.dt_projs_'),
        ('.mixer.A_log', '.op.A_logs'),
        ('.mixer.D', '.op.Ds'),
        ('.mixer.conv.', '.op.conv2d.'),
        ('.mixer.', '.op.'),
    ):
        name = name.replace(ours, theirs)
    return name


class Detector(nn.Module):
    """A model with a backbone and something behind it."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.neck = nn.Linear(2, 2)


def through_init_cfg(backbone, state, folder):
    torch.save(state, folder / 'weights.pth')
    backbone.init_cfg = dict(type='Pretrained', checkpoint=str(folder / 'weights.pth'))
    backbone.init_weights()


def through_a_list_of_init_cfgs(backbone, state, folder):
    torch.save(state, folder / 'weights.pth')
    backbone.init_cfg = [
        dict(type='Constant', layer='LayerNorm', val=7.0),
        dict(type='Pretrained', checkpoint=str(folder / 'weights.pth')),
    ]
    backbone.init_weights()


def through_load_from(backbone, state, folder):
    """What MMEngine does for load_from, for resume and for testing."""
    model = Detector(backbone)
    neck = {f'neck.{name}': value for name, value in model.neck.state_dict().items()}
    torch.save(dict(state_dict={f'backbone.{name}': v for name, v in state.items()} | neck), folder / 'whole.pth')
    load_checkpoint(model, str(folder / 'whole.pth'), strict=False)


def through_an_averaged_model(backbone, state, folder):
    average = ExponentialMovingAverage(Detector(nn.Identity()))
    average.module.backbone = backbone
    load_state_dict(average, {f'module.backbone.{name}': value for name, value in state.items()}, strict=False)


def through_strict_loading(backbone, state, folder):
    backbone.load_state_dict(state)


def through_loading_that_is_not_strict(backbone, state, folder):
    backbone.load_state_dict(state, strict=False)


DOORS = [
    through_init_cfg,
    through_a_list_of_init_cfgs,
    through_load_from,
    through_an_averaged_model,
    through_strict_loading,
    through_loading_that_is_not_strict,
]


@pytest.fixture(params=DOORS, ids=[door.__name__ for door in DOORS])
def load(request, tmp_path):
    return lambda backbone, state: request.param(backbone, state, tmp_path)


def assert_same_weights(a, b, but=()):
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        if name not in but:
            torch.testing.assert_close(x, y, msg=name)


@pytest.mark.parametrize('build', [vmamba, vim])
def test_our_own_names_load(build, load):
    source, target = build(), build()
    load(target, source.state_dict())
    assert_same_weights(source, target)


@pytest.mark.parametrize('build', [vmamba, vim])
def test_published_names_load_with_their_head_left_out(build, load):
    source, target = build(), build()
    head = 'classifier.head' if build is vmamba else 'head'
    load(target, {**published(source), f'{head}.weight': torch.ones(3, 16), f'{head}.bias': torch.ones(3)})
    assert_same_weights(source, target)


def test_position_tables_are_resized(load):
    source, target = vim(), vim(img_size=64)
    load(target, source.state_dict())
    grid = source.pos_embed.detach().reshape(1, 4, 4, 16).permute(0, 3, 1, 2)
    expected = nn.functional.interpolate(grid, (8, 8), mode='bicubic').permute(0, 2, 3, 1).reshape(1, 64, 16)
    torch.testing.assert_close(target.pos_embed.detach(), expected)
    assert_same_weights(source, target, but=['pos_embed'])


def test_parts_that_were_not_built_are_left_out(load):
    source, target = vmamba(), vmamba(out_indices=(0,))
    load(target, source.state_dict())
    torch.testing.assert_close(target.stages[0].blocks[0].mixer.A_log, source.stages[0].blocks[0].mixer.A_log)


def test_output_norms_that_a_file_lacks_stay_as_they_are(load):
    source, target = vim(), vim()
    source.layers[0].mixer.A_log.data.normal_()
    load(target, {name: value for name, value in source.state_dict().items() if not name.startswith('norm')})
    torch.testing.assert_close(target.layers[0].mixer.A_log, source.layers[0].mixer.A_log)


def without(name):
    state = vmamba().state_dict()
    del state[name]
    return state


@pytest.mark.parametrize(
    ('state', 'message'),
    [
        (lambda: without(NAME), f'1 missing: {NAME}'),
        (lambda: {**vmamba().state_dict(), 'gamma': torch.ones(1)}, '1 unexpected: gamma'),
        (lambda: {**vmamba().state_dict(), NAME: torch.ones(2)}, rf'of another shape: {NAME} is \(2,\), want'),
        (lambda: vim().state_dict(), 'missing: .* unexpected: '),
        (lambda: published(vim()), 'missing: .* unexpected: '),
        (lambda: vmamba(search=True).state_dict(), r'is a supernet .*export_directions\.py'),
    ],
    ids=['missing', 'unexpected', 'shape', 'another backbone', 'another published one', 'supernet'],
)
def test_what_does_not_fit_is_an_error_that_names_it_and_changes_nothing(load, state, message):
    target = vmamba()
    before = {name: value.clone() for name, value in target.state_dict().items() if 'norm' not in name}
    with pytest.raises(ValueError, match=message):
        load(target, state())
    for name, value in before.items():
        assert torch.equal(target.state_dict()[name], value), name


def test_fixed_directions_are_refused_by_a_supernet(load):
    with pytest.raises(ValueError, match=r'fixed directions.*supernet \(search=True\)'):
        load(vmamba(search=True), vmamba().state_dict())


@pytest.mark.parametrize('names', [lambda b: b.state_dict(), published, lambda b: {'neck.weight': torch.ones(2, 2)}])
@pytest.mark.parametrize('strict', [False, True])
def test_a_whole_model_refuses_a_file_without_its_backbone(names, strict, tmp_path):
    torch.save(dict(state_dict=names(vmamba())), tmp_path / 'weights.pth')
    with pytest.raises(ValueError, match=r"no tensor for the LocalVMamba.*'backbone\.'.*pretrained=.*init_cfg"):
        load_checkpoint(Detector(vmamba()), str(tmp_path / 'weights.pth'), strict=strict)


def test_the_log_of_a_whole_model_says_what_was_changed(capsys, tmp_path):
    through_load_from(vim(img_size=64), published(vim()), tmp_path)
    output = capsys.readouterr().out
    assert 'published names translated; position table resized from 4 x 4 to 8 x 8' in output


@pytest.mark.parametrize('prefix', ['', 'module.', 'student.'])
def test_a_published_file_fills_a_classifier_under_any_prefix(prefix):
    def build():
        backbone = dict(type='mmlocalmamba.LocalVim', arch=VIM, img_size=32, patch_size=8, out_indices=(1,), d_state=4)
        head = dict(type='mmlocalmamba.ClassificationHead', in_channels=16, num_classes=3, norm='RMSNorm')
        return ImageClassifier(dict(**backbone, out_norm=False), head)

    source, target = build(), build()
    head = {'norm_f.weight': source.head.norm.weight, 'head.weight': source.head.fc.weight}
    state = {**published(source.backbone), **head, 'head.bias': source.head.fc.bias}
    whole = nn.ModuleDict({'x': target}) if prefix else target
    if prefix:
        whole = nn.Module()
        whole.add_module(prefix.rstrip('.'), target)
    load_state_dict(whole, {prefix + name: value for name, value in state.items()}, strict=True)
    assert_same_weights(source, target)
    assert isinstance(target.head, ClassificationHead)
