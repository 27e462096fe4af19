import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import Tensor

from mmlocalmamba.models import LocalVim, LocalVMamba

SETTINGS = dict(out_indices=(1,), d_state=4)
DIRECTIONS = [['h', 'w2'], ['v', 'w2_flip']]
BACKBONES = {
    'LocalVMamba': lambda: LocalVMamba(arch=dict(dims=[8, 16], depths=[1, 1], directions=DIRECTIONS), **SETTINGS),
    'LocalVim': lambda: LocalVim(
        arch=dict(embed_dim=16, depth=2, directions=DIRECTIONS), img_size=32, patch_size=8, **SETTINGS
    ),
}


class Regression(torch.nn.Module):
    """A backbone whose last map is to be 1 everywhere."""

    def __init__(self, backbone: torch.nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, torch.nn.Linear(16, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, torch.dtype]:
        y = self.head(self.backbone(images)[-1].mean((2, 3)))
        return (y.float() - 1).square().mean(), y.dtype


@pytest.mark.parametrize('kind', BACKBONES)
def test_training_in_bfloat16_follows_that_in_float32(kind) -> None:
    losses = {}
    for wrapper in ('OptimWrapper', 'mmlocalmamba.CpuAmpOptimWrapper'):
        torch.manual_seed(0)
        model, images = Regression(BACKBONES[kind]()), torch.randn(2, 3, 32, 32)
        optimizer = build_optim_wrapper(model, dict(type=wrapper, optimizer=dict(type='SGD', lr=0.05)))
        losses[wrapper] = []
        for _ in range(8):
            with optimizer.optim_context(model):
                loss, dtype = model(images)
            optimizer.update_params(loss)
            losses[wrapper].append(loss.item())
        assert all(p.dtype == p.grad.dtype == torch.float32 for p in model.parameters() if p.grad is not None)
    single, mixed = losses.values()

    assert dtype == torch.bfloat16
    assert mixed[-1] < 0.5 * mixed[0]
    assert mixed == pytest.approx(single, rel=0.05, abs=0.02)
    assert mixed != single
