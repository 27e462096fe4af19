"""Small problems that the fused GPU kernels around the scan must solve on a device before they are trusted there."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...directions import scan_orders
from ..add_norm import add_rotate_rms_norm_naive
from ..causal_conv import causal_conv1d_naive
from ..channel_gate import ChannelGate
from ..depthwise_conv import depthwise_conv2d_silu_naive
from ..gate_and_merge import gate_and_merge_naive
from ..merge_and_normalise import OutputNorm, merge_and_normalise_naive
from .self_check import collect_apart

TOLERANCES = {torch.float32: 5e-4, torch.bfloat16: 3e-2, torch.float16: 4e-3}
"""Largest difference allowed, by the dtype of the tokens, as a fraction of the largest value in float64."""

CHANNELS = {torch.float32: 192, torch.bfloat16: 768, torch.float16: 384}
"""Channels of the published models: a width for each dtype, so that checking takes no longer than it must."""

BATCH, HEIGHT, WIDTH, EPS = 2, 13, 11, 1e-5
"""A map whose windows are padded."""

DIRECTIONS = ('v', 'h_flip', 'w2', 'w7_flip')

Values = dict[str, Any]


class Problem(NamedTuple):
    """An operation's arguments, and the same operation in plain PyTorch.

    Attributes:
        values: Keyword arguments of the forward: tokens and parameters in float32, orders, and plain values.
        tokens: Names of the arguments whose dtype is that of the tokens.
        outputs: Names of the outputs.
        naive: Computes from the arguments the outputs that can be differentiated.
        gradients: Arguments with a gradient, in the order that the backward gives them.
        unsaved: Arguments that the backward does not take.
    """

    values: Values
    tokens: tuple[str, ...]
    outputs: tuple[str, ...]
    naive: Callable[[Values], tuple[Tensor, ...]]
    gradients: tuple[str, ...]
    unsaved: tuple[str, ...] = ()


def operation_check(operation: str, kernels: ModuleType, device: torch.device) -> str | None:
    """Compare an operation's fused kernels with PyTorch in float64: values and all gradients, in every dtype.

    Args:
        operation: Name of the operation's module.
        kernels: Its kernels, with ``forward`` and ``backward``.
        device: Where to run them.

    Returns:
        None if they agree, else what differs, or what was raised.
    """

    def collect() -> list[str]:
        found = []
        for dtype, channels in CHANNELS.items():
            problem = PROBLEMS[operation](channels, torch.Generator().manual_seed(0))
            found += _differences(problem, kernels, device, dtype)
        return found

    return collect_apart(collect)


def _differences(problem: Problem, kernels: ModuleType, device: torch.device, dtype: torch.dtype) -> list[str]:
    values = {name: x.to(dtype) if name in problem.tokens else x for name, x in problem.values.items()}
    want, grads = _truth(problem, values)
    got = _run(problem, kernels, _map(values, lambda x: x.to(device)), [grad.to(device) for grad in grads])
    differences = []
    for name, expected in want.items():
        difference = float((got[name].cpu().double() - expected).abs().max() / expected.abs().max())
        if not difference <= TOLERANCES[dtype]:  # NaN too
            differences.append(f'{name} differs by {difference:.1e} of its largest value ({dtype})')
    return differences


def _truth(problem: Problem, values: Values) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Give the outputs and gradients in float64, by name, and the outputs' gradients in the dtypes that they have."""
    leaves = _map(values, lambda x: x.double() if x.is_floating_point() else x)
    wanted = [leaves[name].requires_grad_() for name in problem.gradients]
    with torch.no_grad():
        dtypes = [output.dtype for output in problem.naive(values)]
    with torch.enable_grad():
        outputs = problem.naive(leaves)
        generator = torch.Generator().manual_seed(1)
        grads = [torch.randn(y.shape, generator=generator).to(x) for y, x in zip(outputs, dtypes, strict=True)]
        found = torch.autograd.grad(outputs, wanted, [grad.double() for grad in grads])
    named = {f'the gradient of {name}': grad for name, grad in zip(problem.gradients, found, strict=True)}
    return {**{name: y.detach() for name, y in zip(problem.outputs, outputs, strict=False)}, **named}, grads


def _run(problem: Problem, kernels: ModuleType, values: Values, grads: list[Tensor]) -> dict[str, Tensor]:
    found = kernels.forward(**values)
    outputs = dict(zip(problem.outputs, found if isinstance(found, tuple) else (found,), strict=True))
    kept = {name: value for name, value in values.items() if name not in problem.unsaved}
    kept.update({f'grad_{name}': grad for name, grad in zip(outputs, grads, strict=False)})
    # What is put out only to be kept, and a residual stream, which is put out and kept.
    kept.update({name: outputs[name] for name in ('mean', 'gates', 'residual') if name in outputs})
    back = kernels.backward(**kept)
    return {**outputs, **{f'the gradient of {name}': x for name, x in zip(problem.gradients, back, strict=True)}}


def _map(values: Values, change: Callable[[Tensor], Tensor]) -> Values:
    return {name: change(value) if isinstance(value, Tensor) else value for name, value in values.items()}


def _add_norm(channels: int, generator: torch.Generator) -> Problem:
    shape = (BATCH, HEIGHT * WIDTH, channels)
    values = {
        'hidden': torch.randn(shape, generator=generator),
        'before': torch.randn(shape, generator=generator),
        'weight': torch.randn(channels, generator=generator),
        'eps': EPS,
        'cos': torch.randn(shape[1:], generator=generator),
        'sin': torch.randn(shape[1:], generator=generator),
    }

    def naive(v: Values) -> tuple[Tensor, ...]:
        return add_rotate_rms_norm_naive(v['hidden'], v['before'], v['weight'], v['eps'], (v['cos'], v['sin']))

    outputs = ('normed', 'residual')
    return Problem(values, ('hidden',), outputs, naive, ('before', 'weight'), unsaved=('hidden', 'before'))


def _causal_conv(channels: int, generator: torch.Generator) -> Problem:
    order = scan_orders(DIRECTIONS, HEIGHT, WIDTH)
    values = {
        'x': torch.randn(BATCH, HEIGHT * WIDTH, channels, generator=generator),
        'weight': torch.randn(len(order), channels, 4, generator=generator),
        'bias': torch.randn(len(order), channels, generator=generator),
        'order': order,
    }
    return Problem(values, ('x',), ('y',), lambda v: (causal_conv1d_naive(**v),), ('x', 'weight', 'bias'))


def _depthwise_conv(channels: int, generator: torch.Generator) -> Problem:
    values = {
        'x': torch.randn(BATCH, HEIGHT, WIDTH, channels, generator=generator),
        'weight': torch.randn(channels, 1, 3, 3, generator=generator),
        'bias': torch.randn(channels, generator=generator),
    }
    return Problem(values, ('x',), ('y',), lambda v: (depthwise_conv2d_silu_naive(**v),), ('x', 'weight', 'bias'))


def _merge(channels: int, generator: torch.Generator) -> tuple[Values, tuple[str, ...]]:
    hidden = channels // 8
    shapes = {
        'y': (BATCH, len(DIRECTIONS), HEIGHT * WIDTH, channels),
        'z': (BATCH, HEIGHT * WIDTH, channels),
        'norm_weight': (channels,),
        'norm_bias': (channels,),
        'reduce_weight': (hidden, channels),
        'reduce_bias': (hidden,),
        'select_weight': (channels, hidden),
        'select_bias': (channels,),
    }
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}, tuple(shapes)


def _gate(values: Values) -> ChannelGate:
    return ChannelGate(**{name: values[name] for name in ChannelGate._fields})


def _gate_and_merge(channels: int, generator: torch.Generator) -> Problem:
    values, names = _merge(channels, generator)

    def naive(v: Values) -> tuple[Tensor, ...]:
        return (gate_and_merge_naive(v['y'], v['z'], _gate(v)),)

    return Problem({**values, 'eps': EPS}, ('y', 'z'), ('out', 'mean', 'gates'), naive, names)


def _merge_and_normalise(channels: int, generator: torch.Generator) -> Problem:
    values, names = _merge(channels, generator)
    norm = {name: torch.randn(channels, generator=generator) for name in ('out_norm_weight', 'out_norm_bias')}

    def naive(v: Values) -> tuple[Tensor, ...]:
        output_norm = OutputNorm(v['out_norm_weight'], v['out_norm_bias'], v['out_eps'])
        return (merge_and_normalise_naive(v['y'], v['z'], _gate(v), output_norm),)

    values = {**values, **norm, 'eps': EPS, 'out_eps': EPS}
    return Problem(values, ('y', 'z'), ('out', 'mean', 'gates'), naive, (*names, *norm))


PROBLEMS: dict[str, Callable[[int, torch.Generator], Problem]] = {
    'add_norm': _add_norm,
    'causal_conv': _causal_conv,
    'depthwise_conv': _depthwise_conv,
    'gate_and_merge': _gate_and_merge,
    'merge_and_normalise': _merge_and_normalise,
}
"""Draws a problem for each operation."""
