"""Problems for the operations around the scan, and the comparison of fused kernels with the naive functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmlocalmamba.directions import scan_orders
from mmlocalmamba.ops import (
    ChannelGate,
    OutputNorm,
    add_rotate_rms_norm,
    depthwise_conv2d_silu,
    gate_and_merge,
    local_causal_conv1d,
    merge_and_normalise,
)
from mmlocalmamba.ops.add_norm import add_rotate_rms_norm_naive
from mmlocalmamba.ops.causal_conv import causal_conv1d_naive
from mmlocalmamba.ops.depthwise_conv import depthwise_conv2d_silu_naive
from mmlocalmamba.ops.gate_and_merge import gate_and_merge_naive
from mmlocalmamba.ops.merge_and_normalise import merge_and_normalise_naive

EPS = 1e-5
GATE = ChannelGate._fields[:-1]


class FusedProblem(NamedTuple):
    """An operation and what to call it with.

    Attributes:
        fused: The public function.
        naive: Its naive twin.
        call: Calls either with the tensors.
        tensors: What has a gradient, by name.
        grads: Gradients of the outputs.
    """

    fused: Callable[..., Any]
    naive: Callable[..., Any]
    call: Callable[[Callable[..., Any], dict[str, Tensor]], Any]
    tensors: dict[str, Tensor]
    grads: list[Tensor]


def add_norm(
    batch=2, length=5, channels=20, dtype=torch.float64, weight_dtype=None, residual=True, rotary=True
) -> FusedProblem:
    full = torch.promote_types(dtype, torch.float32)
    weight_dtype = weight_dtype or full
    shape = (batch, length, channels)
    # Not even a rotation: nothing may take the tables for one.
    tables = (torch.randn(shape[1:], dtype=full), torch.randn(shape[1:], dtype=full)) if rotary else None
    tensors = {'hidden': randn(shape, dtype), 'weight': randn((channels,), weight_dtype)}
    if residual:
        tensors['residual'] = randn(shape, full)

    def call(function, values):
        turn = tables and tuple(table.to(values['weight'].dtype) for table in tables)
        return function(values['hidden'], values.get('residual'), values['weight'], EPS, turn)

    grads = [randn(shape, weight_dtype), randn(shape, full)]
    return FusedProblem(add_rotate_rms_norm, add_rotate_rms_norm_naive, call, tensors, grads)


def causal_conv(
    height=3, width=5, directions=('h', 'v_flip', 'w2'), batch=2, channels=7, taps=4, dtype=torch.float64, order=None
) -> FusedProblem:
    full = torch.promote_types(dtype, torch.float32)
    order = scan_orders(directions, height, width) if order is None else order
    k, length = order.shape
    tensors = {
        'x': randn((batch, height * width, channels), dtype),
        'weight': randn((k, channels, taps), full),
        'bias': randn((k, channels), full),
    }
    grads = [randn((batch, length, k, channels), dtype)]

    def call(function, values):
        return function(**values, order=order)

    return FusedProblem(local_causal_conv1d, causal_conv1d_naive, call, tensors, grads)


def depthwise_conv(batch=2, height=4, width=5, channels=7, dtype=torch.float64) -> FusedProblem:
    full = torch.promote_types(dtype, torch.float32)
    shape = (batch, height, width, channels)
    tensors = {
        'x': randn(shape, dtype),
        'weight': randn((channels, 1, 3, 3), full),
        'bias': randn((channels,), full),
    }
    call = lambda function, values: function(**values)  # noqa: E731
    return FusedProblem(depthwise_conv2d_silu, depthwise_conv2d_silu_naive, call, tensors, [randn(shape, dtype)])


def merge(
    operation, batch=2, directions=3, tokens=11, channels=7, hidden=3, dtype=torch.float64, z_dtype=None
) -> FusedProblem:
    """Make a problem for ``'gate_and_merge'`` or ``'merge_and_normalise'``."""
    full = torch.promote_types(dtype, torch.float32)
    shapes = [(channels,), (channels,), (hidden, channels), (hidden,), (channels, hidden), (channels,)]
    tensors = {
        'y': (2 * randn((batch, directions, tokens, channels), full) + 1).to(dtype),
        'z': randn((batch, tokens, channels), z_dtype or dtype),
        **{name: randn(shape, full) for name, shape in zip(GATE, shapes, strict=True)},
    }
    grads = [randn((batch, tokens, channels), dtype)]

    def gate(values):
        return ChannelGate(*(values[name] for name in GATE), EPS)

    if operation == 'gate_and_merge':
        call = lambda function, values: function(values['y'], values['z'], gate(values))  # noqa: E731
        return FusedProblem(gate_and_merge, gate_and_merge_naive, call, tensors, grads)
    tensors.update(norm_of_sum_weight=randn((channels,), full), norm_of_sum_bias=randn((channels,), full))

    def call_normalised(function, values):
        norm = OutputNorm(values['norm_of_sum_weight'], values['norm_of_sum_bias'], EPS)
        return function(values['y'], values['z'], gate(values), norm)

    return FusedProblem(merge_and_normalise, merge_and_normalise_naive, call_normalised, tensors, grads)


def randn(shape, dtype) -> Tensor:
    return torch.randn(shape, dtype=torch.promote_types(dtype, torch.float32)).to(dtype)


def outcome(problem: FusedProblem, function: Callable[..., Any], dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """Run forward and backward: outputs and gradients, by name."""
    leaves = {name: as_leaf(x, dtype) for name, x in problem.tensors.items()}
    outputs = problem.call(function, leaves)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    grads = [grad if dtype is None else grad.to(dtype) for grad in problem.grads]
    found = torch.autograd.grad(outputs, list(leaves.values()), grads)
    named = {f'output {i}': y.detach() for i, y in enumerate(outputs)}
    return {**named, **{f'gradient of {name}': x for name, x in zip(leaves, found, strict=True)}}


def as_leaf(x: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Give a leaf of the same strides."""
    x = x.detach()
    return (x if dtype is None else x.to(dtype)).requires_grad_()


def assert_fused_agrees(problem: FusedProblem, tolerance: float) -> dict[str, Tensor]:
    """Compare values and every gradient with the naive function in float64, relative to the largest of each."""
    got = outcome(problem, problem.fused)
    want = outcome(problem, problem.naive, torch.float64)
    for name, value in got.items():
        assert value.shape == want[name].shape, name
        if name.startswith('gradient of '):
            assert value.dtype == problem.tensors[name.removeprefix('gradient of ')].dtype, name
        if value.numel():
            scale = max(want[name].abs().max().item(), 1.0)
            difference = (value.double() - want[name]).abs().max().item() / scale
            assert difference <= tolerance, f'{name} differs by {difference:.1e} of {scale:.1e}'
    return got
