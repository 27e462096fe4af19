"""A small problem that a kernel must solve on a device before it is trusted there.

A fused local scan once corrupted training without anyone knowing why. A kernel that was compiled for a device that
nobody has tried shows its values and gradients first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ...directions import scan_orders
from ..scan_inputs import ScanGrads, ScanInputs
from . import reference

TOLERANCE = 5e-4
"""Largest difference allowed, in float32, as a fraction of the largest value of the reference in float64."""


def self_check(backend: ModuleType, device: torch.device) -> str | None:
    """Compare a back end with the reference on a device: values and all gradients, in both forms, with padding.

    Returns:
        None if they agree, else what differs, or what was raised.
    """
    return collect_apart(lambda: [*_differences(backend, device, True), *_differences(backend, device, False)])


def collect_apart(collect: Callable[[], list[str]]) -> str | None:
    """Collect problems in a thread of its own, which has no autocast, inference or other mode of the caller's.

    Returns:
        The problems in one sentence, or what was raised; None if there are none.
    """
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


def _differences(backend: ModuleType, device: torch.device, spatial: bool) -> list[str]:
    inputs = _problem(spatial)
    shape = (len(inputs.u), inputs.order.shape[0], inputs.map_tokens, inputs.u.shape[-1])
    grad = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    want = _run(reference, _convert(inputs, dtype=torch.float64), grad.double())
    got = _run(backend, _convert(inputs, device=device), grad.to(device))
    form = 'spatial' if spatial else 'scan order'
    problems = []
    for name, expected in want.items():
        difference = float((got[name].cpu().double() - expected).abs().max() / expected.abs().max())
        if not difference <= TOLERANCE:  # NaN too
            problems.append(f'{name} differs by {difference:.1e} of its largest value ({form} form)')
    return problems


def _run(backend: ModuleType, inputs: ScanInputs, grad: Tensor) -> dict[str, Tensor]:
    y, states = backend.forward(inputs, True)
    grads: ScanGrads = backend.backward(grad, inputs, states)
    named = {f'the gradient of {name}': value for name, value in grads._asdict().items() if value is not None}
    return {'y': y, **named}


def _convert(inputs: ScanInputs, device: torch.device | str = 'cpu', dtype: torch.dtype = torch.float32) -> ScanInputs:
    def convert(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.to(device, dtype) if value.is_floating_point() else value.to(device)

    return ScanInputs(*(convert(value) for value in inputs))


def _problem(spatial: bool) -> ScanInputs:
    """Make 13 x 11 tokens, so that windows are padded, of 40 channels: more than one block, and not a whole one."""
    height, width, channels, d_state = 13, 11, 40, 16
    order = scan_orders(('v', 'h_flip', 'w7_flip'), height, width)
    directions, tokens = order.shape[0], height * width
    rows = tokens if spatial else order.shape[1]
    generator = torch.Generator().manual_seed(0)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return ScanInputs(
        u=randn(2, rows, channels) if spatial else randn(2, rows, directions, channels),
        dt=randn(2, rows, directions, channels),
        A=-torch.exp(randn(directions, channels, d_state)),
        B=randn(2, rows, directions, d_state),
        C=randn(2, rows, directions, d_state),
        D=randn(directions, channels),
        dt_bias=randn(directions, channels) - 2,
        order=order,
        num_tokens=tokens,
    )
