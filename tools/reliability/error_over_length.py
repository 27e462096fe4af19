"""How far the scan's kernels are from double precision on sequences of up to a million tokens."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mmlocalmamba.ops import ScanInputs
from mmlocalmamba.ops.backends import cpu

CHANNELS, STATES = 16, 4
STEPS = (1e-3, 0.1)
"""Step sizes as models start with: states last from ten tokens to a thousand."""


class Errors(NamedTuple):
    """Largest differences from double precision, relative to the largest number of the same tensor.

    Attributes:
        output: Of y.
        gradient: Of the worst gradient.
    """

    output: float
    gradient: float


class Problem(NamedTuple):
    """A scan and the gradient of its output."""

    inputs: ScanInputs
    grad: Tensor

    def to(self, dtype: torch.dtype) -> Problem:
        """Bring tokens to a dtype, and parameters to its compute dtype."""
        full = torch.promote_types(dtype, torch.float32)
        tokens = {name: getattr(self.inputs, name).to(dtype) for name in ('u', 'dt', 'B', 'C')}
        parameters = {name: getattr(self.inputs, name).to(full) for name in ('A', 'D', 'dt_bias')}
        return Problem(self.inputs._replace(**tokens, **parameters), self.grad.to(dtype))


def make_problem(length: int, dtype: torch.dtype) -> Problem:
    """Draw a scan of one sequence, of numbers that the dtype can hold, in double precision."""
    generator = torch.Generator().manual_seed(length)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype).double()

    low, high = (torch.tensor(step).log() for step in STEPS)
    steps = torch.exp(low + (high - low) * torch.rand(1, CHANNELS, generator=generator))
    inputs = ScanInputs(
        u=draw(1, length, CHANNELS),
        dt=draw(1, length, 1, CHANNELS),
        A=torch.arange(1, STATES + 1).log().repeat(1, CHANNELS, 1).double(),
        B=draw(1, length, 1, STATES),
        C=draw(1, length, 1, STATES),
        D=draw(1, CHANNELS),
        dt_bias=torch.log(torch.expm1(steps)).double(),
        order=torch.arange(length, dtype=torch.int32)[None],
        num_tokens=length,
        log_A=True,
    )
    return Problem(inputs, draw(1, 1, length, CHANNELS))


def errors(length: int, dtype: torch.dtype, instruction_set: str) -> Errors:
    """Compare the kernels in a dtype with those in double precision, which the tests compare with the naive loop."""
    cpu.library().use_instruction_set(instruction_set)
    problem = make_problem(length, dtype)
    want, got = run(problem), run(problem.to(dtype))
    y, *gradients = (((a.double() - b).abs().max() / b.abs().max()).item() for a, b in zip(got, want, strict=True))
    return Errors(y, max(gradients))


def run(problem: Problem) -> list[Tensor]:
    """Scan forward and backward; y and the gradients."""
    y, states = cpu.forward(problem.inputs, True)
    grads = cpu.backward(problem.grad, problem.inputs, states)
    return [y, *(grad for grad in grads if grad is not None)]
