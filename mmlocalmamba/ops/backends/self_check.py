"""Small problems that a scan must solve on a device before its kernels are trusted there.

A fused local scan once corrupted training without anyone knowing why. A kernel that was compiled for a device that
nobody has tried shows its values and gradients first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...directions import scan_orders
from ..scan_inputs import ScanGrads, ScanInputs
from ..selective_scan import multiply_out
from . import reference

TOLERANCES = {torch.float32: 5e-4, torch.bfloat16: 4e-2, torch.float16: 5e-3}
"""Largest difference allowed, as a fraction of the largest value of the reference in float64, by the tokens' dtype."""


class Case(NamedTuple):
    """A problem to be solved.

    Attributes:
        height: Rows of the map.
        width: Columns of the map.
        channels: Channels D.
        rank: Rank R of the step sizes, with A as its logarithm; 0 for step sizes of every channel.
        dtype: Of the tokens.
        spatial: Whether tokens are gathered by the scan; otherwise they come in scan order.
    """

    height: int
    width: int
    channels: int
    rank: int
    dtype: torch.dtype
    spatial: bool

    def __str__(self) -> str:
        steps = f'rank {self.rank}' if self.rank else 'full rank'
        form = 'spatial' if self.spatial else 'scan order'
        dtype = str(self.dtype).removeprefix('torch.')
        return f'{form} form, {dtype}, {self.height} x {self.width} tokens, {self.channels} channels, {steps}'


# Windows are padded in all of them. 40 channels are more than one block of any kernel, and not whole blocks; 192 and
# 384 channels, with their ranks, are those of LocalVMamba-T's first stage and of LocalVim-T.
CASES = (
    Case(13, 11, 40, 0, torch.float32, True),
    Case(13, 11, 40, 0, torch.float32, False),
    Case(13, 11, 192, 6, torch.float32, True),
    Case(9, 15, 192, 6, torch.bfloat16, True),
    Case(9, 15, 384, 12, torch.float16, False),
    Case(9, 15, 40, 0, torch.bfloat16, False),
)


def self_check(backend: ModuleType, device: torch.device) -> str | None:
    """Compare a back end with the reference on a device: values and all gradients of every case that it takes.

    Returns:
        None if they agree, else what differs, or what was raised.
    """
    cases = [case for case in CASES if backend.TAKES_FACTORS or not case.rank]
    return collect_apart(lambda: [text for case in cases for text in _differences(backend, device, case)])


def collect_apart(collect: Callable[[], list[str]]) -> str | None:
    """Collect problems in a thread of its own, which has no autocast, inference or other mode of the caller's.

    Returns:
        The problems in one sentence, or what was raised; None if there are none.

    Raises:
        RuntimeError: If a CUDA graph is being captured, which a check would spoil.
    """
    if torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            'GPU kernels are checked before their first use on a device, which cannot be done while a CUDA graph is '
            'captured: run a step before the capture'
        )
    problems: list[str] = []

    def run() -> None:
        try:
            with torch.no_grad():
                problems.extend(collect())
        except Exception as error:
            problems.append(f'it raised {type(error).__name__}: {error}')

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return '; '.join(problems) or None


def _differences(backend: ModuleType, device: torch.device, case: Case) -> list[str]:
    inputs, grad = _problem(case)
    got = _run(backend, _convert(inputs, device), grad.to(device))
    problems = []
    for name, expected in _truth(inputs, grad).items():
        difference = float((got[name].cpu().double() - expected).abs().max() / expected.abs().max())
        if not difference <= TOLERANCES[case.dtype]:  # NaN too
            problems.append(f'{name} differs by {difference:.1e} of its largest value ({case})')
    return problems


def _run(backend: ModuleType, inputs: ScanInputs, grad: Tensor) -> dict[str, Tensor]:
    y, states = backend.forward(inputs, True)
    grads: ScanGrads = backend.backward(grad, inputs, states)
    named = {f'the gradient of {name}': value for name, value in grads._asdict().items() if value is not None}
    return {'y': y, **named}


def _truth(inputs: ScanInputs, grad: Tensor) -> dict[str, Tensor]:
    """Scan in float64 by the naive loop, and differentiate it by autograd, through the factors where there are any."""
    wide = _convert(inputs, 'cpu', torch.float64)
    names = [name for name in ScanGrads._fields if getattr(wide, name) is not None]
    leaves = [getattr(wide, name).requires_grad_() for name in names]
    with torch.enable_grad():
        y = reference.selective_scan_naive(multiply_out(wide))
    grads = torch.autograd.grad(y, leaves, grad.double())
    return {'y': y.detach(), **{f'the gradient of {name}': value for name, value in zip(names, grads, strict=True)}}


def _convert(inputs: ScanInputs, device: torch.device | str, dtype: torch.dtype | None = None) -> ScanInputs:
    def convert(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.to(device, dtype) if value.is_floating_point() else value.to(device)

    return ScanInputs(*(convert(value) for value in inputs))


def _problem(case: Case) -> tuple[ScanInputs, Tensor]:
    """Draw the inputs of a case, and a gradient of its output."""
    order = scan_orders(('v', 'h_flip', 'w7_flip'), case.height, case.width)
    directions, tokens, batch, d_state = order.shape[0], case.height * case.width, 2, 16
    rows = tokens if case.spatial else order.shape[1]
    generator = torch.Generator().manual_seed(0)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    decay = randn(directions, case.channels, d_state)
    inputs = ScanInputs(
        u=randn(*((batch, rows) if case.spatial else (batch, rows, directions)), case.channels).to(case.dtype),
        dt=randn(batch, rows, directions, case.rank or case.channels).to(case.dtype),
        A=decay if case.rank else -torch.exp(decay),
        B=randn(batch, rows, directions, d_state).to(case.dtype),
        C=randn(batch, rows, directions, d_state).to(case.dtype),
        D=randn(directions, case.channels),
        dt_bias=randn(directions, case.channels) - 2,
        order=order,
        num_tokens=tokens,
        dt_weight=case.rank**-0.5 * randn(directions, case.channels, case.rank) if case.rank else None,
        log_A=bool(case.rank),
    )
    return inputs, randn(batch, directions, tokens, case.channels).to(case.dtype)
