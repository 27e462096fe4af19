"""Starting a backbone from a checkpoint."""

import pytest
import torch
from torch import nn

from mmlocalmamba.models import LocalVim, LocalVMamba
from mmlocalmamba.models.weights.loading import load_backbone

VMAMBA = dict(dims=(8, 16), depths=(1, 1), directions=[['h', 'w2'], ['v', 'h_flip']])
VIM = dict(embed_dim=16, depth=2, directions=[['h', 'w2'], ['v', 'h_flip']])


def vmamba(**kwargs):
    return LocalVMamba(**{**dict(arch=VMAMBA, out_indices=(0, 1), d_state=4), **kwargs})


def vim(**kwargs):
    return LocalVim(**{**dict(arch=VIM, img_size=32, patch_size=8, out_indices=(0, 1), d_state=4), **kwargs})


@pytest.fixture
def saved(tmp_path):
    def save(state):
        path = tmp_path / 'weights.pth'
        torch.save(state, path)
        return str(path)

    return save


def assert_same_weights(a, b):
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        torch.testing.assert_close(x, y, msg=name)


@pytest.mark.parametrize('build', [vmamba, vim])
@pytest.mark.parametrize('wrap', [lambda s: s, lambda s: dict(state_dict=s), lambda s: dict(model=s, epoch=3)])
def test_a_backbone_round_trips(build, wrap, saved):
    source, target = build(), build()
    load_backbone(target, saved(wrap(source.state_dict())))
    assert_same_weights(source, target)


def test_a_detectors_checkpoint_gives_its_backbone(saved):
    detector = nn.ModuleDict(dict(backbone=vmamba(), neck=nn.Linear(2, 2)))
    target = vmamba()
    load_backbone(target, saved(dict(state_dict=detector.state_dict())))
    assert_same_weights(detector['backbone'], target)


def test_init_cfg_loads_through_init_weights(saved):
    source = vmamba()
    target = vmamba(init_cfg=dict(type='Pretrained', checkpoint=saved(source.state_dict())))
    target.init_weights()
    assert_same_weights(source, target)
    assert target.is_init


def test_the_log_counts_the_tensors(saved, capsys):
    source = vmamba()
    load_backbone(vmamba(), saved(source.state_dict()))
    total = len(source.state_dict())
    assert f'{total}/{total} backbone tensors loaded' in capsys.readouterr().out


def test_output_norms_may_be_missing(saved, capsys):
    source, target = vmamba(), vmamba()
    state = {k: v for k, v in source.state_dict().items() if not k.startswith('norm')}
    load_backbone(target, saved(state))
    assert f'{len(state)}/{len(state)} backbone tensors' in capsys.readouterr().out
    torch.testing.assert_close(target.norm0.weight, torch.ones(8))


def test_another_width_is_refused(saved):
    wide = vmamba(arch=dict(VMAMBA, dims=(16, 32)))
    with pytest.raises(ValueError, match='of another shape.*want'):
        load_backbone(vmamba(), saved(wide.state_dict()))


def test_another_model_is_refused(saved):
    with pytest.raises(ValueError, match='does not fit this LocalVMamba.*missing.*unexpected'):
        load_backbone(vmamba(), saved(nn.Linear(2, 2).state_dict()))


def test_a_prefix_that_nothing_has_is_refused(saved):
    with pytest.raises(ValueError, match="prefix='encoder'"):
        load_backbone(vmamba(), saved(vmamba().state_dict()), prefix='encoder')


def test_a_model_with_init_cfg_that_is_used_without_it_warns_once(caplog) -> None:
    cfg = dict(type='Pretrained', checkpoint='weights.pth')
    model = LocalVMamba('micro', init_cfg=cfg)

    for _ in range(2):
        model(torch.zeros(1, 3, 32, 32))

    assert caplog.text.count('used with random weights: call init_weights() first') == 1


def test_a_model_that_was_initialised_or_loaded_does_not_warn(caplog, tmp_path) -> None:
    torch.save(LocalVMamba('micro').state_dict(), tmp_path / 'weights.pth')
    cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'weights.pth'))
    initialised, loaded, plain = (LocalVMamba('micro', init_cfg=given) for given in (cfg, cfg, None))
    initialised.init_weights()
    loaded.load_state_dict(LocalVMamba('micro').state_dict())

    for model in (initialised, loaded, plain):
        model(torch.zeros(1, 3, 32, 32))

    assert 'random weights' not in caplog.text
