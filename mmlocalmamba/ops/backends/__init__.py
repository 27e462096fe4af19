"""The back ends of the scan, and the one place that chooses between them.

A back end is a module of this package with four functions: ``why_not(device_type)`` says in a sentence why it cannot
run there (None if it can), ``states_shape(u, A, order)`` gives the shape of what its forward keeps for its backward, and
``forward`` and ``backward`` do the work. ``auto`` takes the first of the device's list that can run. A back end that was
asked for by name runs or raises: there is no quiet way from a fast one to a slow one.
"""

from __future__ import annotations

import logging
import os
from functools import lru_cache
from importlib import import_module
from types import ModuleType

import torch

ENVIRONMENT_VARIABLE = 'MMLOCALMAMBA_BACKEND'

BACKENDS: tuple[str, ...] = ('triton', 'cuda', 'cpu', 'chunked', 'reference')

AUTO_ORDER: dict[str, tuple[str, ...]] = {
    # Our fused kernel reads tokens by their order; mamba-ssm's needs them copied into every direction first.
    'cuda': ('triton', 'cuda', 'chunked'),
    'cpu': ('cpu', 'chunked'),
}
_ANYWHERE = ('chunked',)
_SLOW = ('chunked', 'reference')

logger = logging.getLogger('mmlocalmamba')


def load_backend(name: str) -> ModuleType:
    """Import a back end by name; ValueError if there is none of that name."""
    if name not in BACKENDS:
        raise ValueError(f"unknown scan back end {name!r}: choose 'auto' or one of {', '.join(map(repr, BACKENDS))}")
    return import_module(f'.{name}', __name__)


def available_backends(device: torch.device | str = 'cpu') -> dict[str, str | None]:
    """Tell which back ends can run on a device.

    Returns:
        For every back end, None if it can run there, else a sentence that says why not and how to get it.
    """
    kind = torch.device(device).type
    return {name: load_backend(name).why_not(kind) for name in BACKENDS}


def backend_for(device: torch.device | str = 'cpu', name: str | None = None) -> str:
    """Choose the back end for a device.

    Args:
        device: Where the tensors live.
        name: Back end to use, or ``'auto'``. Default: the environment variable ``MMLOCALMAMBA_BACKEND``, else 'auto'.

    Returns:
        The back end's name. What 'auto' chose is logged once per kind of device; a slow choice is a warning.

    Raises:
        ValueError: If there is no back end of that name.
        RuntimeError: If the named back end cannot run there. The message says why and how to get it.
    """
    name = name or os.environ.get(ENVIRONMENT_VARIABLE) or 'auto'
    return _choose(torch.device(device).type, name)


@lru_cache(maxsize=64)
def _choose(device_type: str, name: str) -> str:
    if name != 'auto':
        reason = load_backend(name).why_not(device_type)
        if reason is not None:
            raise RuntimeError(
                f'the scan back end {name!r} was asked for, but cannot run on {device_type!r}: {reason} '
                f"(or use 'auto': unset {ENVIRONMENT_VARIABLE}, or pass backend='auto')"
            )
        logger.info('selective scan on %s: back end %r, as asked for', device_type, name)
        return name
    reasons = []
    for candidate in AUTO_ORDER.get(device_type, _ANYWHERE):
        reason = load_backend(candidate).why_not(device_type)
        if reason is None:
            _announce(device_type, candidate, reasons)
            return candidate
        reasons.append(f'{candidate}: {reason}')
    raise RuntimeError(f'no scan back end can run on {device_type!r}. ' + ' '.join(reasons))


def _announce(device_type: str, name: str, reasons: list[str]) -> None:
    if name in _SLOW and reasons:
        logger.warning(
            'selective scan on %s: falling back to the SLOW pure-PyTorch back end %r. Faster ones cannot run: %s',
            device_type,
            name,
            ' '.join(reasons),
        )
    else:
        logger.info('selective scan on %s: back end %r', device_type, name)
