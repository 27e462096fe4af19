"""Problems for the scan, and the comparison of a back end with the reference."""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from mmlocalmamba.directions import scan_orders
from mmlocalmamba.ops.backends import reference

NAMES = ('y', 'd_u', 'd_dt', 'd_A', 'd_B', 'd_C', 'd_D', 'd_dt_bias')


class Problem(NamedTuple):
    inputs: list[Tensor]
    order: Tensor
    num_tokens: int
    grad: Tensor


def make_problem(
    height: int,
    width: int,
    directions: tuple[str, ...] = ('h', 'w2_flip'),
    *,
    batch: int = 1,
    channels: int = 6,
    d_state: int = 3,
    dtype: torch.dtype = torch.float64,
    spatial: bool = True,
    strided: bool = False,
) -> Problem:
    """Draw a problem; with ``strided``, every tensor of tokens is a view of a larger one, features not innermost."""
    order = scan_orders(directions, height, width)
    k, tokens = order.shape[0], height * width
    rows = tokens if spatial else order.shape[1]
    full = torch.promote_types(dtype, torch.float32)

    def draw(*shape: int) -> Tensor:
        if strided:
            return torch.randn(shape[-1] + 1, *shape[:-1]).to(dtype)[1:].movedim(0, -1)
        return torch.randn(shape).to(dtype)

    u = draw(batch, rows, channels) if spatial else draw(batch, rows, k, channels)
    dt, B, C = draw(batch, rows, k, channels), draw(batch, rows, k, d_state), draw(batch, rows, k, d_state)
    A = -torch.exp(torch.randn(k, channels, d_state)).to(full)
    D, dt_bias = torch.randn(k, channels).to(full), torch.randn(k, channels).to(full)
    grad = torch.randn(batch, k, tokens, channels).to(dtype)
    return Problem([u, dt, A, B, C, D, dt_bias], order, tokens, grad)


def run(backend: ModuleType, problem: Problem) -> tuple[Tensor, ...]:
    """Run forward and backward; y and seven gradients."""
    inputs, order, num_tokens, grad = problem
    y, states = backend.forward(*inputs, order, num_tokens, True)
    assert tuple(states.shape) == tuple(backend.states_shape(inputs[0], inputs[2], order))
    return y, *backend.backward(grad, *inputs, order, states, num_tokens)


def assert_agrees(backend: ModuleType, problem: Problem, tolerance: float) -> None:
    """Compare values and all gradients with the reference in float64, relative to the largest value of each."""
    inputs, order, num_tokens, grad = problem
    wide = Problem([x.double() for x in inputs], order, num_tokens, grad.double())
    like = (grad, *inputs)
    for name, got, want, x in zip(NAMES, run(backend, problem), run(reference, wide), like, strict=True):
        assert got.dtype == x.dtype, name
        assert got.shape == want.shape, name
        assert got.is_contiguous(), name
        scale = max(want.abs().max().item() if want.numel() else 0.0, 1.0)
        difference = (got.double() - want).abs().max().item() / scale if want.numel() else 0.0
        assert difference <= tolerance, f'{name} differs by {difference:.1e} of {scale:.1e}'
