"""Measures of whole models against timm's Swin and DeiT: forward, training step, bfloat16, growth with the image.

All models are built with random weights and without drop path. A training step is forward and backward, from a random
gradient of every output.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import record_function

from mmlocalmamba.models import ClassificationHead, LocalVim, LocalVMamba

from .benchmark import Comparison, Result, Setup, Table, Times, compare, compare_once, interleaved
from .flops import PartCost, count_model

_SMALL_SWIN: dict[str, Any] = dict(embed_dim=32, depths=(1, 1, 2, 1), num_heads=(1, 2, 4, 8))
_SMALL_DEIT: dict[str, Any] = dict(embed_dim=64, depth=2, num_heads=2)

BACKWARD = 'benchmark backward'
"""Name of the backward of a training step in a profile."""

GROWTH = 1.1
"""How much more than the number of tokens the time may grow by."""


def label(name: str, setup: Setup) -> str:
    """Give the name of a model's size: ``'Swin'`` is ``'Swin-T'``, or ``'Swin-micro'`` if it is a small one."""
    return f'{name}-{"micro" if setup.small else "T"}'


def side_of(setup: Setup) -> int:
    """Give the side in pixels of the images that models are compared on."""
    return 64 if setup.small else 224


def sides_of(setup: Setup) -> tuple[int, ...]:
    """Give the sides in pixels at which growth is measured; the second one is what others are compared with."""
    return (32, 64, 128) if setup.small else (256, 512, 1024, 2048)


def local_vmamba(setup: Setup, maps: bool = False, with_cp: bool = False) -> nn.Module:
    """Build LocalVMamba: a classifier, or if asked a backbone with four maps."""
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


def swin(setup: Setup, side: int, maps: bool = False) -> nn.Module:
    """Build timm's Swin for a side in pixels: a classifier, or if asked a backbone with four maps."""
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
    """Give a function that runs the model's forward in evaluation mode, if asked in bfloat16 autocast."""
    model = model.to(image.device).eval()

    @torch.no_grad()
    def run() -> Any:
        with torch.autocast(image.device.type, torch.bfloat16, enabled=autocast):
            return model(image)

    return run


def step_of(model: nn.Module, image: Tensor) -> Callable[[], None]:
    """Give a function that runs the model's forward and backward in training mode."""
    model = model.to(image.device).train()
    # Random: that of a mean or a sum of squares all but vanishes behind a normalisation, where processors are slow.
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


def count(model: nn.Module, side: int) -> PartCost:
    """Count the multiply-adds of a model that is still on the CPU, attention as the matrix products it consists of."""
    with sdpa_kernel(SDPBackend.MATH):
        (cost,) = count_model(model, side, side)
    return cost


def forward(setup: Setup) -> Result:
    """Measure LocalVMamba's forward against Swin's."""
    return _against_swin(setup, 'forward', forward_of, setup.wanted(1.3), setup.wanted(1.0))


def training(setup: Setup) -> Result:
    """Measure LocalVMamba's forward and backward against Swin's."""
    return _against_swin(setup, 'forward + backward', step_of, setup.wanted(1.6), setup.wanted(1.3))


def _against_swin(
    setup: Setup,
    what: str,
    prepare: Callable[[nn.Module, Tensor], Callable[[], Any]],
    wanted: float | None,
    aim: float | None,
) -> Result:
    side = side_of(setup)
    ours, theirs = label('LocalVMamba', setup), label('Swin', setup)
    models = {ours: local_vmamba(setup), theirs: swin(setup, side)}
    flops, base_flops = (count(model, side).flops / 1e9 for model in models.values())
    image = draw_image(setup, side)
    times = interleaved({k: prepare(model, image) for k, model in models.items()}, setup.runs, setup.device)
    rows = [
        compare(times, ours, theirs, wanted, aim, label=f'{ours} {what}'),
        compare_once(f'{ours} FLOPs of a forward', theirs, flops, base_flops, 'G'),
    ]
    return Result(f'{ours} {what}, {_size(setup, side)}', rows)


def vim(setup: Setup) -> Result:
    """Measure LocalVim's forward, and its forward and backward, against DeiT's."""
    side = side_of(setup)
    ours, theirs = label('LocalVim', setup), label('DeiT', setup)
    models = {ours: local_vim(setup, side), theirs: deit(setup, side)}
    costs = [count(model, side) for model in models.values()]
    image = draw_image(setup, side)
    rows = []
    for what, prepare, wanted in (
        ('forward', forward_of, setup.wanted(2.0)),
        ('forward + backward', step_of, None),
    ):
        times = interleaved({k: prepare(model, image) for k, model in models.items()}, setup.runs, setup.device)
        rows.append(compare(times, ours, theirs, wanted, label=f'{ours} {what}'))
    base = costs[1].flops / 1e9
    rows.append(compare_once(f'{ours} FLOPs of a forward', theirs, costs[0].flops / 1e9, base, 'G'))
    published = costs[0].published_flops / 1e9
    rows.append(compare_once(f"{ours} FLOPs, the paper's count", theirs, published, base, 'G'))
    note = (
        "The paper's count of LocalVim takes the projections of all directions for one, and the scan for 5 L D N per "
        'direction in place of 9 L D N + L D; attention is counted as its two matrix products.'
    )
    return Result(f'{ours}, {_size(setup, side)}', rows, notes=[note])


def bf16(setup: Setup) -> Result:
    """Measure LocalVMamba's forward in bfloat16 autocast against float32, and against Swin's in autocast."""
    side = side_of(setup)
    ours, theirs = label('LocalVMamba', setup), label('Swin', setup)
    model, other, image = local_vmamba(setup), swin(setup, side), draw_image(setup, side)
    functions = {
        f'{ours} bfloat16': forward_of(model, image, autocast=True),
        f'{ours} float32': forward_of(model, image),
        f'{theirs} bfloat16': forward_of(other, image, autocast=True),
    }
    first, *others = functions
    times = interleaved(functions, setup.runs, setup.device)
    rows = [compare(times, first, base, label=f'{first} forward') for base in others]
    note = 'In autocast the scan itself computes in float32.'
    return Result(f'{ours} in autocast, {_size(setup, side)}', rows, notes=[note])


def resolution(setup: Setup) -> Result:
    """Measure how the forward's time grows with the image; also for the other models, for the picture."""
    ours, theirs = label('LocalVMamba', setup), label('Swin', setup)
    builders: dict[str, Callable[[int], nn.Module]] = {
        ours: lambda side: local_vmamba(setup, maps=True),
        theirs: lambda side: swin(setup, side, maps=True),
        label('LocalVim', setup): lambda side: local_vim(setup, side),
        label('DeiT', setup): lambda side: deit(setup, side),
    }
    rows, points = [], []
    for name, build in builders.items():
        functions = {f'{name} {side}²': forward_of(build(side), draw_image(setup, side)) for side in sides_of(setup)}
        times = interleaved(functions, setup.few_runs, setup.device, warm_up=1)
        rows += growth(setup, name, times, bounded=name == ours)
        for side in sides_of(setup):
            milliseconds = 1e3 * statistics.median(times[f'{name} {side}²'])
            points.append({'model': name, 'side': side, 'tokens': (side // 16) ** 2, 'ms': milliseconds})
    title = f'forward over the size of the image, {setup.batch} x 3 x side x side'
    return Result(title, rows, [Table('time against tokens of 16 x 16 pixels', points)])


def growth(setup: Setup, name: str, times: Times, bounded: bool) -> list[Comparison]:
    """Compare a model's times at larger images with that at the second smallest; only if ``bounded`` with a bound."""
    _, base, *larger = sides_of(setup)
    rows = []
    for side in larger:
        wanted = setup.wanted(GROWTH * (side / base) ** 2) if bounded else None
        rows.append(compare(times, f'{name} {side}²', f'{name} {base}²', wanted))
    return rows


def _size(setup: Setup, side: int) -> str:
    return f'{setup.batch} x 3 x {side} x {side}'
