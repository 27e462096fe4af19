"""The models that measures compare, with random weights and without drop path, and how they are run.

A training step is forward and backward, from a random gradient of every output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.profiler import record_function

from mmlocalmamba.models import ClassificationHead, LocalVim, LocalVMamba, Vim, VMamba
from timing import Setup

_SMALL_SWIN: dict[str, Any] = dict(embed_dim=32, depths=(1, 1, 2, 1), num_heads=(1, 2, 4, 8))
_SMALL_DEIT: dict[str, Any] = dict(embed_dim=64, depth=2, num_heads=2)

BACKWARD = 'benchmark backward'
"""Name of the backward of a training step in a profile."""


def label(name: str, setup: Setup) -> str:
    """Return the name of a model with its size: ``'Swin-T'``, or ``'Swin-micro'`` for the small one."""
    return f'{name}-{"micro" if setup.small else "T"}'


def side_of(setup: Setup) -> int:
    """Return the side in pixels of the images that models are compared on."""
    return 64 if setup.small else 224


def sides_of(setup: Setup) -> tuple[int, ...]:
    """Return the sides in pixels at which growth is measured; the others are compared with the second one."""
    return (32, 64, 128) if setup.small else (256, 512, 1024, 2048)


def local_vmamba(setup: Setup, maps: bool = False, with_cp: bool = False) -> nn.Module:
    """Build LocalVMamba: a classifier, or with ``maps`` a backbone with four maps."""
    arch = 'micro' if setup.small else 'tiny'
    if maps:
        return LocalVMamba(arch, with_cp=with_cp)
    backbone = LocalVMamba(arch, out_indices=(3,), out_norm=False, with_cp=with_cp)
    return nn.Sequential(backbone, ClassificationHead(backbone.dims[-1]))


def local_vim(setup: Setup, side: int) -> nn.Module:
    """Build the LocalVim classifier for a side in pixels."""
    sizes = LocalVim.arch_zoo['micro' if setup.small else 'tiny']
    backbone = LocalVim(sizes, img_size=side, out_indices=(-1,), out_type='residual', out_norm=False)
    return nn.Sequential(backbone, ClassificationHead(sizes['embed_dim'], norm='RMSNorm'))


def vmamba(setup: Setup) -> nn.Module:
    """Build the classifier of VMamba's second version."""
    backbone = VMamba('micro_s1l2' if setup.small else 'tiny_s1l8', out_indices=(3,), out_norm=False)
    return nn.Sequential(backbone, ClassificationHead(backbone.dims[-1]))


def vim(setup: Setup, side: int) -> nn.Module:
    """Build the Vim classifier for a side in pixels."""
    sizes = Vim.arch_zoo['micro' if setup.small else 'tiny']
    backbone = Vim(sizes, img_size=side, out_indices=(-1,), out_type='cls_token', out_norm=False)
    return nn.Sequential(backbone, ClassificationHead(sizes['embed_dim'], norm='RMSNorm'))


def swin(setup: Setup, side: int, maps: bool = False) -> nn.Module:
    """Build timm's Swin for a side in pixels: a classifier, or with ``maps`` a backbone with four maps."""
    options = dict(features_only=True) if maps else {}
    sizes = _SMALL_SWIN if setup.small else {}
    return timm.create_model(
        'swin_tiny_patch4_window7_224', img_size=side, strict_img_size=False, drop_path_rate=0.0, **sizes, **options
    )


def deit(setup: Setup, side: int) -> nn.Module:
    """Build timm's DeiT for a side in pixels."""
    return timm.create_model('deit_tiny_patch16_224', img_size=side, **(_SMALL_DEIT if setup.small else {}))


def draw_image(setup: Setup, side: int) -> Tensor:
    """Draw a batch of square images."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(setup.batch, 3, side, side, generator=generator).to(setup.device)


def forward_of(model: nn.Module, image: Tensor, autocast: bool = False) -> Callable[[], Any]:
    """Return a function that runs the model's forward in evaluation mode, with ``autocast`` in bfloat16."""
    model = model.to(image.device).eval()

    @torch.no_grad()
    def run() -> Any:
        with torch.autocast(image.device.type, torch.bfloat16, enabled=autocast):
            return model(image)

    return run


def step_of(model: nn.Module, image: Tensor) -> Callable[[], None]:
    """Return a function that runs the model's forward and backward in training mode."""
    model = model.to(image.device).train()
    # Random: the gradient of a mean or a sum of squares all but vanishes behind a normalisation, and processors are
    # slow at such tiny numbers.
    grads: list[Tensor] = []

    def run() -> None:
        model.zero_grad(set_to_none=True)
        outputs = model(image)
        outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        if not grads:
            generator = torch.Generator(image.device).manual_seed(1)
            grads.extend(torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype) for x in outputs)
        with record_function(BACKWARD):
            torch.autograd.backward(outputs, grads)

    return run
