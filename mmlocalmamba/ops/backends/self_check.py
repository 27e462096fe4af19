"""A small problem that a kernel must solve on a device before it is trusted there.

A fused local scan once corrupted training without anyone knowing why. A kernel that was compiled for a device that
nobody has tried shows its values and gradients first.
"""

from __future__ import annotations

import threading
from types import ModuleType

import torch
from torch import Tensor

from ...directions import scan_orders
from . import reference

TOLERANCE = 5e-4
"""Largest difference allowed, in float32, as a fraction of the largest value of the reference in float64."""

_NAMES = ('u', 'dt', 'A', 'B', 'C', 'D', 'dt_bias')


def self_check(backend: ModuleType, device: torch.device) -> str | None:
    """Compare a back end with the reference on a device: values and all gradients, in both forms, with padding.

    Returns:
        None if they agree, else what differs, or what was raised.
    """
    problems: list[str] = []
    # A thread of its own has no autocast, inference, fake tensor or other mode of the caller's.
    thread = threading.Thread(target=_collect, args=(backend, device, problems))
    thread.start()
    thread.join()
    return '; '.join(problems) or None


def _collect(backend: ModuleType, device: torch.device, problems: list[str]) -> None:
    try:
        with torch.no_grad():
            for spatial in (True, False):
                problems += _differences(backend, device, spatial)
    except Exception as error:
        problems.append(f'it raised {type(error).__name__}: {error}')


def _differences(backend: ModuleType, device: torch.device, spatial: bool) -> list[str]:
    inputs, order, num_tokens = _problem(spatial)
    grad = torch.randn(2, order.shape[0], num_tokens, inputs[0].shape[-1], generator=torch.Generator().manual_seed(1))
    want = _run(reference, [x.double() for x in inputs], order, num_tokens, grad.double())
    got = _run(backend, [x.to(device) for x in inputs], order.to(device), num_tokens, grad.to(device))
    names = ('y', *(f'the gradient of {name}' for name in _NAMES))
    form = 'spatial' if spatial else 'scan order'
    problems = []
    for name, actual, expected in zip(names, got, want, strict=True):
        difference = float((actual.cpu().double() - expected).abs().max() / expected.abs().max())
        if not difference <= TOLERANCE:  # NaN too
            problems.append(f'{name} differs by {difference:.1e} of its largest value ({form} form)')
    return problems


def _run(backend: ModuleType, inputs: list[Tensor], order: Tensor, num_tokens: int, grad: Tensor) -> tuple[Tensor, ...]:
    y, states = backend.forward(*inputs, order, num_tokens, True)
    return y, *backend.backward(grad, *inputs, order, states, num_tokens)


def _problem(spatial: bool) -> tuple[list[Tensor], Tensor, int]:
    """Make 13 x 11 tokens, so that windows are padded, of 40 channels: more than one block, and not a whole one."""
    height, width, channels, d_state = 13, 11, 40, 16
    order = scan_orders(('v', 'h_flip', 'w7_flip'), height, width)
    directions, tokens = order.shape[0], height * width
    rows = tokens if spatial else order.shape[1]
    generator = torch.Generator().manual_seed(0)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    u = randn(2, rows, channels) if spatial else randn(2, rows, directions, channels)
    dt, A = randn(2, rows, directions, channels), -torch.exp(randn(directions, channels, d_state))
    B, C = randn(2, rows, directions, d_state), randn(2, rows, directions, d_state)
    D, dt_bias = randn(directions, channels), randn(directions, channels) - 2
    return [u, dt, A, B, C, D, dt_bias], order, tokens
