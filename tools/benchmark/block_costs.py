"""Estimate, not measure, what a block and a whole model cost on a GPU: every operation by bytes, products and launches.

Assumptions, besides those of :mod:`scan_costs`: memory at 80 % of its peak, matrix products at 50 %, exponentials and
exchanges at 70 %, and 5 us of the host for every launch. An operation takes as long as the slowest of these, and
operations do not overlap. Weights are read once per batch. The stem, the head and the optimizer are left out.

So these are upper limits of the speed. How far above what is reached they lie can be seen from the way of scanning that
gathers tokens for mamba-ssm's kernel: VMamba-T with 16 states, which scans so, was measured at 638 images per second in
inference and 195 in training (A100, batch 128, from the VMamba repository).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from scan_costs import Cost, Gpu, Layer, fused_backward, fused_forward, permute_backward, permute_forward

BANDWIDTH, PRODUCTS, SCALARS = 0.8, 0.5, 0.7
"""Parts of the peak rates that are taken to be reached: of memory, of matrix products, of everything else."""

LAUNCH = 5e-6
"""Seconds of the host for a launch."""


@dataclass(frozen=True)
class Operation:
    """An operation of a block, with its work in the forward and in the backward."""

    name: str
    forward: Cost
    backward: Cost


def seconds(cost: Cost, gpu: Gpu) -> float:
    """Estimate the time of an operation."""
    bounds = cost.bounds(gpu)
    device = max(
        bounds['bytes'] / BANDWIDTH,
        bounds['products'] / PRODUCTS,
        max(bounds['exponentials'], bounds['exchanges'], bounds['walk']) / SCALARS,
    )
    return max(device, cost.launches * LAUNCH)


def _product(name: str, rows: int, inputs: int, outputs: int, item: int) -> Operation:
    """Count a linear layer: one product forward, two backward."""
    products, weights = 2.0 * rows * inputs * outputs, inputs * outputs
    moved = item * (rows * (inputs + outputs) + weights)
    twice = item * (2 * rows * (inputs + outputs) + 2 * weights)
    return Operation(name, Cost(moved, 0, products=products), Cost(twice, 0, launches=2, products=2 * products))


def _memory(name: str, forward: float, backward: float, launches: tuple[int, int] = (1, 1)) -> Operation:
    """Count what only moves bytes."""
    return Operation(name, Cost(forward, 0, launches=launches[0]), Cost(backward, 0, launches=launches[1]))


def _scan(layer: Layer, gpu: Gpu, training: bool, way: str) -> Operation:
    if way == 'permute':
        return Operation('scan', permute_forward(layer, gpu), permute_backward(layer, gpu))
    return Operation('scan', fused_forward(layer, gpu, training), fused_backward(layer, gpu))


def local_vmamba_block(layer: Layer, gpu: Gpu, training: bool = True, way: str = 'fused') -> list[Operation]:
    """Count the operations of LocalVMamba's block around a scan, done in the ``'fused'`` or the ``'permute'`` way."""
    rows, item, inner, dim = layer.batch * layer.tokens, layer.itemsize, layer.channels, layer.channels // 2
    projected = layer.directions * (layer.rank + 2 * layer.d_state)
    wide, narrow = item * rows * inner, item * rows * dim
    scans = layer.directions * wide
    return [
        _memory('norm', 2 * narrow, 3 * narrow, (1, 2)),
        _product('in_proj', rows, dim, 2 * inner, item),
        _memory('convolution, SiLU', 2 * wide, 4 * wide, (1, 3)),
        _product('x_proj', rows, inner, projected, item),
        _scan(layer, gpu, training, way),
        # The scans are read for the moments and again for the sum; backward for the sums and again for the gradients.
        _memory('SCAttn, sum, norm, gate', 2 * scans + 2 * wide, 3 * scans + 4 * wide, (4, 7)),
        _product('out_proj', rows, inner, dim, item),
        _memory('residual', 3 * narrow, 2 * narrow),
    ]


def local_vim_block(layer: Layer, gpu: Gpu, training: bool = True, way: str = 'fused') -> list[Operation]:
    """Count the operations of LocalVim's block around a scan; ``way`` as in :func:`local_vmamba_block`."""
    rows, item, inner, dim = layer.batch * layer.tokens, layer.itemsize, layer.channels, layer.channels // 2
    wide, stream = item * rows * inner, 4 * rows * dim
    scans = layer.directions * wide
    projected = layer.rank + 2 * layer.d_state
    return [
        _memory('residual, rotary, norm', 2.5 * stream, 3.5 * stream, (1, 2)),
        _product('in_proj', rows, dim, 2 * inner, item),
        _memory('convolution, SiLU', wide + scans, 2 * wide + 2 * scans, (1, 3)),
        _product('x_proj', rows * layer.directions, inner, projected, item),
        _scan(layer, gpu, training, way),
        _memory('SCAttn, gate, sum', 2 * scans + 2 * wide, 3 * scans + 3 * wide, (4, 7)),
        _product('out_proj', rows, inner, dim, item),
    ]


def model_seconds(blocks: Iterable[tuple[list[Operation], int]], gpu: Gpu, training: bool) -> float:
    """Estimate the time of a batch: its forward, and in training its backward too."""
    total = 0.0
    for operations, count in blocks:
        for operation in operations:
            total += count * seconds(operation.forward, gpu)
            if training:
                total += count * seconds(operation.backward, gpu)
    return total
