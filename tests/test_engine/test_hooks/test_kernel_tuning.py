from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmlocalmamba.engine.hooks import kernel_tuning
from mmlocalmamba.engine.hooks.kernel_tuning import KernelTuningHook
from mmlocalmamba.models import LocalVim, LocalVMamba

DIRECTIONS = [['h', 'w2_flip'], ['v']]


class Model(nn.Module):
    def __init__(self, frozen: int) -> None:
        super().__init__()
        vmamba = dict(dims=[8, 16], depths=[1, 1], directions=DIRECTIONS)
        self.backbone = LocalVMamba(vmamba, out_indices=(0, 1), d_state=2, drop_path_rate=0.5, frozen_stages=frozen)
        self.other = LocalVim(dict(embed_dim=8, depth=2, directions=DIRECTIONS), out_indices=(1,), d_state=2)
        self.head = nn.BatchNorm2d(16)


def runner(model: nn.Module) -> SimpleNamespace:
    return SimpleNamespace(model=model, optim_wrapper=SimpleNamespace(optim_context=lambda model: nullcontext()))


@pytest.mark.parametrize('frozen', [-1, 2])
def test_backbones_run_at_every_size_and_leave_no_trace(monkeypatch, frozen) -> None:
    monkeypatch.setattr(kernel_tuning, 'tune_together', lambda run, device: run())
    model = Model(frozen).train()
    seen: list[tuple[int, ...]] = []
    for backbone in (model.backbone, model.other):
        backbone.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape)))
    state = torch.get_rng_state()
    KernelTuningHook(sizes=[(32, 48), (64, 32)], batch_size=2).before_train(runner(model))

    assert seen == 2 * [(2, 3, 32, 48), (2, 3, 64, 32)]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_one_process_tunes_when_kernels_are_used() -> None:
    model = Model(-1)
    model.backbone.register_forward_pre_hook(lambda *_: pytest.fail('it has run'))
    KernelTuningHook(sizes=[(32, 48)], batch_size=2).before_train(runner(model))


@pytest.mark.parametrize(('sizes', 'batch_size'), [([], 2), ([(32,)], 2), ([(0, 32)], 2), ([(32, 32)], 0)])
def test_wrong_sizes_are_refused(sizes, batch_size) -> None:
    with pytest.raises(ValueError, match='must be pairs of height and width, and batch_size='):
        KernelTuningHook(sizes, batch_size)
