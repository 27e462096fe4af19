"""The package's operations with random inputs of a size, for checks against float64 and for timing beside bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmlocalmamba.directions import scan_orders
from mmlocalmamba.ops import (
    ChannelGate,
    OutputNorm,
    ScanInputs,
    add_rotate_rms_norm,
    depthwise_conv2d_silu,
    gate_and_merge,
    local_causal_conv1d,
    local_selective_scan,
    merge_and_normalise,
)
from mmlocalmamba.ops.add_norm import add_rotate_rms_norm_naive
from mmlocalmamba.ops.backends.reference import selective_scan_naive
from mmlocalmamba.ops.causal_conv import causal_conv1d_naive
from mmlocalmamba.ops.depthwise_conv import depthwise_conv2d_silu_naive
from mmlocalmamba.ops.gate_and_merge import gate_and_merge_naive
from mmlocalmamba.ops.merge_and_normalise import merge_and_normalise_naive
from mmlocalmamba.ops.selective_scan import multiply_out

EPS = 1e-5
DIRECTIONS = ('h', 'v_flip', 'w2', 'w7_flip')
D_STATE = 16


@dataclass(frozen=True)
class Size:
    """Size of an operation: a map of channels in a batch."""

    batch: int
    height: int
    width: int
    channels: int

    @property
    def tokens(self) -> int:
        """Tokens of a map."""
        return self.height * self.width

    def __str__(self) -> str:
        return f'{self.batch} x {self.height} x {self.width} x {self.channels}'


@dataclass(frozen=True)
class Problem:
    """An operation and its inputs.

    Attributes:
        public: The operation, called with ``tensors`` and then ``constants``.
        naive: The same in PyTorch.
        tensors: Inputs with a gradient, on the CPU.
        constants: Other inputs, on the CPU.
        exponentials: Exponentials that either pass needs at least.
    """

    public: Callable[..., Any]
    naive: Callable[..., Any]
    tensors: list[Tensor]
    constants: list[Tensor]
    exponentials: int = 0


def draw(size: Size, dtype: torch.dtype, backend: str | None = None) -> dict[str, Problem]:
    """Draw a problem of every operation, by its name; the scan by a back end, if one is named."""
    generator = torch.Generator().manual_seed(0)

    def randn(*shape: int, kind: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(shape, generator=generator).to(kind)

    batch, tokens, channels = size.batch, size.tokens, size.channels
    order = scan_orders(DIRECTIONS, size.height, size.width)
    directions, hidden = len(DIRECTIONS), max(channels // 8, 1)
    gate = [randn(channels), randn(channels), randn(hidden, channels) / channels**0.5, randn(hidden),
            randn(channels, hidden) / hidden**0.5, randn(channels)]  # fmt: skip
    scans = randn(batch, directions, tokens, channels, kind=dtype)
    z = randn(batch, tokens, channels, kind=dtype)
    rank = max(channels // 32, 1)
    scanned = [
        randn(batch, tokens, channels, kind=dtype),
        randn(batch, tokens, directions, rank, kind=dtype),
        randn(directions, channels, D_STATE).clamp(-2, 2),
        randn(batch, tokens, directions, D_STATE, kind=dtype),
        randn(batch, tokens, directions, D_STATE, kind=dtype),
        randn(directions, channels),
        randn(directions, channels) - 2,
        randn(directions, channels, rank),
    ]

    def scan(function: Callable[[ScanInputs], Tensor]) -> Callable[..., Any]:
        def run(*values: Tensor) -> Tensor:
            u, dt, A, B, C, D, dt_bias, dt_weight, order = values
            return function(ScanInputs(u, dt, A, B, C, D, dt_bias, order, tokens, dt_weight, log_A=True))

        return run

    def norm(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda x, residual, weight, cos, sin: function(x, residual, weight, EPS, (cos, sin))

    def channel_gate(weights: tuple[Tensor, ...]) -> ChannelGate:
        return ChannelGate(**dict(zip(ChannelGate._fields, weights, strict=False)), eps=EPS)

    def merge(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda y, z, *weights: function(y, z, channel_gate(weights))

    def merge_norm(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda y, z, *w: function(y, z, channel_gate(w[:6]), OutputNorm(w[6], w[7], EPS))

    exponentials = batch * directions * tokens * channels * D_STATE
    return {
        'selective_scan': Problem(
            scan(lambda inputs: local_selective_scan(inputs, backend)),
            scan(lambda inputs: selective_scan_naive(multiply_out(inputs))),
            scanned, [order], exponentials,
        ),
        'merge_and_normalise': Problem(
            merge_norm(merge_and_normalise), merge_norm(merge_and_normalise_naive),
            [scans, z, *gate, randn(channels), randn(channels)], [],
        ),
        'gate_and_merge': Problem(merge(gate_and_merge), merge(gate_and_merge_naive), [scans, z, *gate], []),
        'depthwise_conv': Problem(
            depthwise_conv2d_silu, depthwise_conv2d_silu_naive,
            [z.unflatten(1, (size.height, size.width)), randn(channels, 1, 3, 3), randn(channels)], [],
        ),
        'causal_conv': Problem(
            local_causal_conv1d, causal_conv1d_naive,
            [z, randn(directions, channels, 4), randn(directions, channels)], [order],
        ),
        'add_norm': Problem(
            norm(add_rotate_rms_norm), norm(add_rotate_rms_norm_naive),
            [z, randn(batch, tokens, channels), randn(channels)], [randn(tokens, channels), randn(tokens, channels)],
        ),
    }  # fmt: skip


def passes(problem: Problem, device: str) -> tuple[Callable[[], Any], Callable[[], Any], int, int]:
    """Give an operation's forward and backward on a device, and the bytes that each of them moves at least."""
    tensors = [x.to(device).requires_grad_() for x in problem.tensors]
    constants = [x.to(device) for x in problem.constants]

    def forward() -> Any:
        with torch.no_grad():
            return problem.public(*tensors, *constants)

    outputs = problem.public(*tensors, *constants)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    grads = [torch.randn_like(x) for x in outputs]

    def backward() -> Any:
        return torch.autograd.grad(outputs, tensors, grads, retain_graph=True)

    read, written = (sum(x.nbytes for x in group) for group in ([*tensors, *constants], outputs))
    return forward, backward, read + written, 2 * read + written


def largest_error(problem: Problem, device: str) -> float:
    """Compare an operation with its naive function in float64: the largest error of outputs and gradients.

    Each is relative to the largest value of its own. NaN counts as infinite.
    """
    tensors = [x.to(device) for x in problem.tensors]
    got = _results(problem.public, tensors, [x.to(device) for x in problem.constants])
    exact = [x if x.dtype == torch.int32 else x.double() for x in problem.constants]
    want = _results(problem.naive, [x.double() for x in problem.tensors], exact)
    errors = [((a - b).abs().max() / b.abs().max().clamp_min(1e-6)).item() for a, b in zip(got, want, strict=True)]
    return max(error if error == error else float('inf') for error in errors)


def _results(function: Callable[..., Any], tensors: list[Tensor], constants: list[Tensor]) -> list[Tensor]:
    leaves = [x.detach().requires_grad_() for x in tensors]
    outputs = function(*leaves, *constants)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    generator = torch.Generator().manual_seed(1)
    grads = [torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x) for x in outputs]
    return [x.detach().double().cpu() for x in (*outputs, *torch.autograd.grad(outputs, leaves, grads))]
