"""Measures of whole models against timm's Swin and DeiT: forward, training step, bfloat16, growth with the image."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from compared_models import (
    deit,
    draw_image,
    forward_of,
    label,
    local_vim,
    local_vmamba,
    side_of,
    sides_of,
    step_of,
    swin,
    vmamba,
)
from compared_models import vim as vim_model
from mmlocalmamba.analysis.flops import PartCost, count_model
from mmlocalmamba.analysis.measuring import Times, interleaved
from timing import Comparison, Result, Setup, Table, compare, compare_once

GROWTH = 1.1
"""How much faster than the number of tokens the time may grow."""


def count(model: nn.Module, side: int) -> PartCost:
    """Count the multiply-adds of a model on the CPU, with attention as its matrix products."""
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


def baselines(setup: Setup) -> Result:
    """Measure VMamba's second version against Swin, and Vim against DeiT: forward, and forward and backward."""
    side = side_of(setup)
    image = draw_image(setup, side)
    rows = []
    for ours, theirs, model, other in (
        (label('VMamba v2', setup), label('Swin', setup), vmamba(setup), swin(setup, side)),
        (label('Vim', setup), label('DeiT', setup), vim_model(setup, side), deit(setup, side)),
    ):
        models = {ours: model, theirs: other}
        for what, prepare in (('forward', forward_of), ('forward + backward', step_of)):
            times = interleaved({k: prepare(each, image) for k, each in models.items()}, setup.runs, setup.device)
            rows.append(compare(times, ours, theirs, label=f'{ours} {what}'))
        flops, base = (count(each, side).flops / 1e9 for each in models.values())
        rows.append(compare_once(f'{ours} FLOPs of a forward', theirs, flops, base, 'G'))
    return Result(f'VMamba and Vim, {_size(setup, side)}', rows)


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
    """Measure how the forward's time grows with the image, for all models that the picture shows."""
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
    """Compare a model's times at larger images with that at the second smallest, with a bound if ``bounded``."""
    _, base, *larger = sides_of(setup)
    rows = []
    for side in larger:
        wanted = setup.wanted(GROWTH * (side / base) ** 2) if bounded else None
        rows.append(compare(times, f'{name} {side}²', f'{name} {base}²', wanted))
    return rows


def _size(setup: Setup, side: int) -> str:
    return f'{setup.batch} x 3 x {side} x {side}'
