"""Problems for the scan, and the comparison of a back end with the reference."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from mmlocalmamba.directions import scan_orders
from mmlocalmamba.ops import ScanInputs
from mmlocalmamba.ops.backends import reference
from mmlocalmamba.ops.selective_scan import multiply_out

TENSORS = ('u', 'dt', 'A', 'B', 'C', 'D', 'dt_bias', 'dt_weight')
"""What has a gradient."""


class Problem(NamedTuple):
    inputs: ScanInputs
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

    inputs = ScanInputs(
        u=draw(batch, rows, channels) if spatial else draw(batch, rows, k, channels),
        dt=draw(batch, rows, k, channels),
        B=draw(batch, rows, k, d_state),
        C=draw(batch, rows, k, d_state),
        A=-torch.exp(torch.randn(k, channels, d_state)).to(full),
        D=torch.randn(k, channels).to(full),
        dt_bias=torch.randn(k, channels).to(full),
        order=order,
        num_tokens=tokens,
    )
    return Problem(inputs, torch.randn(batch, k, tokens, channels).to(dtype))


def in_factors(problem: Problem, rank: int = 2) -> Problem:
    """Give step sizes at low rank with a projection, and A as its logarithm, of the same kind as the problem's."""
    inputs = problem.inputs
    dt = torch.randn(*inputs.dt.shape[:-1], rank).to(inputs.dt.dtype)
    dt_weight = torch.randn(*inputs.D.shape, rank).to(inputs.A.dtype)
    return problem._replace(inputs=inputs._replace(dt=dt, dt_weight=dt_weight, A=torch.log(-inputs.A), log_A=True))


def map_tensors(inputs: ScanInputs, change: Callable[[Tensor], Tensor]) -> ScanInputs:
    """Change the tensors that have a gradient."""
    present = {name: getattr(inputs, name) for name in TENSORS if getattr(inputs, name) is not None}
    return inputs._replace(**{name: change(value) for name, value in present.items()})


def tensors_of(inputs: ScanInputs) -> list[Tensor]:
    """List the tensors that have a gradient."""
    return [getattr(inputs, name) for name in TENSORS if getattr(inputs, name) is not None]


def on_device(problem: Problem, device: torch.device | str) -> Problem:
    """Move a problem, which is drawn on the CPU, to a device."""
    moved = (value.to(device) if isinstance(value, Tensor) else value for value in problem.inputs)
    return Problem(ScanInputs(*moved), problem.grad.to(device))


def run(backend: ModuleType, problem: Problem) -> dict[str, Tensor]:
    """Run forward and backward; y and the gradients, by name."""
    inputs, grad = problem
    y, states = backend.forward(inputs, True)
    assert tuple(states.shape) == tuple(backend.states_shape(inputs))
    grads = backend.backward(grad, inputs, states)
    return {'y': y, **{f'd_{name}': value for name, value in grads._asdict().items() if value is not None}}


def truth(problem: Problem) -> dict[str, Tensor]:
    """Compute y and the gradients by the naive loop in float64, by autograd where there are factors."""
    inputs = map_tensors(problem.inputs, lambda x: x.detach().double().requires_grad_())
    y = reference.selective_scan_naive(multiply_out(inputs))
    grads = torch.autograd.grad(y, tensors_of(inputs), problem.grad.double(), allow_unused=True, materialize_grads=True)
    names = [f'd_{name}' for name in TENSORS if getattr(inputs, name) is not None]
    return {'y': y.detach(), **dict(zip(names, grads, strict=True))}


def assert_agrees(backend: ModuleType, problem: Problem, tolerance: float) -> None:
    """Compare values and all gradients with the reference in float64, relative to the largest value of each.

    The reference is computed on the CPU, wherever the problem is.
    """
    got, want = run(backend, problem), truth(on_device(problem, 'cpu'))
    assert got.keys() == want.keys()
    for name, value in got.items():
        like = problem.grad if name == 'y' else getattr(problem.inputs, name[2:])
        assert value.dtype == like.dtype, name
        assert value.shape == want[name].shape, name
        assert value.is_contiguous(), name
        assert value.device == like.device, name
        value = value.cpu()
        scale = max(want[name].abs().max().item() if value.numel() else 0.0, 1.0)
        difference = (value.double() - want[name]).abs().max().item() / scale if value.numel() else 0.0
        assert difference <= tolerance, f'{name} differs by {difference:.1e} of {scale:.1e}'
