"""The back ends of the scan, and the one place that chooses between them.

A back end is a module of this package with four functions and a constant:

- ``why_not(device_type)`` says in a sentence why it cannot run there, or gives None if it can.
- ``states_shape(inputs)`` gives the shape of the states that its forward keeps for its backward.
- ``forward(inputs, keep_states)`` gives ``(y, states)``, with empty states if they are not to be kept.
- ``backward(grad_y, inputs, states)`` gives :class:`~mmlocalmamba.ops.scan_inputs.ScanGrads`.
- ``TAKES_FACTORS`` says whether both take step sizes of low rank (``dt_weight``) and ``log_A``.

``auto`` takes the first of the device's list that can run. A back end that was asked for by name runs or raises: there
is no quiet way from a fast one to a slow one. GPU kernels are compared with the reference on each device before their
first use (see :mod:`.self_check`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import torch

from ..fused_tuning import run_tuned, tunes
from ..plain_scan import is_exporting_to_onnx

ENVIRONMENT_VARIABLE = 'MMLOCALMAMBA_BACKEND'

BACKENDS: tuple[str, ...] = ('triton', 'cuda', 'cpu', 'chunked', 'reference')

AUTO_ORDER: dict[str, tuple[str, ...]] = {
    # Our fused kernel reads tokens by their order; mamba-ssm's needs them copied into every direction first, which
    # moves several times the bytes. PyTorch's own kernels launch once per token or so: only if there is nothing else.
    'cuda': ('triton', 'cuda', 'chunked'),
    # Compiled code where there was a compiler; otherwise PyTorch, a chunk at a time.
    'cpu': ('cpu', 'chunked'),
}
_ANYWHERE = ('chunked',)
_SLOW = ('chunked', 'reference')
_CHECKED = ('triton', 'cuda')
_CHECKED_DEVICES = ('cuda',)

logger = logging.getLogger('mmlocalmamba')


@lru_cache(maxsize=len(BACKENDS))
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
        The back end's name. What was chosen is logged once per device; a slow choice is a warning.

    Raises:
        ValueError: If there is no back end of that name.
        RuntimeError: If the named back end cannot run there, or does not agree with the reference. The message says why
            and how to get it.
    """
    return _choose(_indexed(device), _asked_for(name))


def _asked_for(name: str | None = None) -> str:
    return name or os.environ.get(ENVIRONMENT_VARIABLE) or 'auto'


def _indexed(device: torch.device | str) -> torch.device:
    """Name the current GPU where none is named."""
    if not isinstance(device, torch.device):
        device = torch.device(device)
    if device.type == 'cuda' and device.index is None and torch.cuda.is_available():
        return torch.device('cuda', torch.cuda.current_device())
    return device


_AROUND_THE_SCAN = ('add_norm', 'causal_conv', 'depthwise_conv', 'gate_and_merge', 'merge_and_normalise')

FUSED_OPERATIONS: dict[str, tuple[str, ...]] = {'triton': _AROUND_THE_SCAN, 'cpu': _AROUND_THE_SCAN}
"""What stands around the scan and has fused kernels: the modules ``<back end>/<operation>.py``, by back end.

Each has a ``forward`` and a ``backward`` with the keyword arguments of its registered operation. Where a device has no
module for an operation, the operation is a few PyTorch calls.
"""

_FUSED_BY = {'cuda': 'triton'}
"""Back ends of the scan that leave the fused operations to another one, where that can run."""


class FusedKernels(NamedTuple):
    """What computes an operation on a device.

    Attributes:
        backend: Name of the back end.
        forward: Takes the keyword arguments of the registered operation.
        backward: Takes those of its backward.
    """

    backend: str
    forward: Callable[..., Any]
    backward: Callable[..., Any]


def _not_here(**values: Any) -> Any:
    raise AssertionError('a traced model calls registered operations')


_TRACED = FusedKernels('the one that the registered operation finds', _not_here, _not_here)


def fused_kernels(operation: str, device: torch.device) -> FusedKernels | None:
    """Find an operation's fused kernels for a device.

    They are those of the scan's back end. mamba-ssm has a scan alone, and leaves the rest to Triton.

    Args:
        operation: Name of the operation's module.
        device: Where its tensors live.

    Returns:
        The kernels; None if there are none, or a model is exported to ONNX. While a model is compiled, that there are
        some is all that is told: the registered operation finds them.

    Raises:
        RuntimeError: If the back end was asked for by name, and its kernels do not agree with PyTorch there.
    """
    if is_exporting_to_onnx():
        return None
    if torch.compiler.is_compiling():
        return _TRACED if _has_fused_kernels(operation, device) else None
    return _choose_fused(operation, device, _asked_for())


@torch.compiler.assume_constant_result
def _has_fused_kernels(operation: str, device: torch.device) -> bool:
    return _choose_fused(operation, _indexed(device), _asked_for()) is not None


@lru_cache(maxsize=64)
def _choose_fused(operation: str, device: torch.device, asked_for: str) -> FusedKernels | None:
    scan = _choose(device, asked_for)
    name = _FUSED_BY.get(scan, scan)
    if operation not in FUSED_OPERATIONS.get(name, ()):
        return None
    if name != scan and load_backend(name).why_not(device.type) is not None:
        return None
    module = _import_fused(name, operation)
    kernels = FusedKernels(name, module.forward, module.backward)
    if tunes(name, device):
        kernels = FusedKernels(name, *(_tuned(operation, way, getattr(module, way)) for way in ('forward', 'backward')))
    if name not in _CHECKED or device.type not in _CHECKED_DEVICES:
        return kernels
    from .operation_check import operation_check

    problem = operation_check(operation, module, device)
    if problem is None:
        return kernels
    message = (
        f'{operation} on {device}: the fused kernels of back end {name!r} do not agree with PyTorch here: {problem}. '
        'Please report this, with your GPU and versions'
    )
    if asked_for == name:
        raise RuntimeError(f"{message} (or use 'auto': unset {ENVIRONMENT_VARIABLE})")
    logger.warning('%s. They are NOT USED: it is a few PyTorch calls.', message)
    return None


def _tuned(operation: str, function: str, call: Callable[..., Any]) -> Callable[..., Any]:
    return lambda **values: run_tuned(operation, function, call, values)


def fused(operation: str, function: str) -> Callable[..., Any]:
    """Make the implementation of a registered operation: it finds the fused kernels by the device of its tensors.

    Args:
        operation: Name of the operation's module in each back end.
        function: ``'forward'`` or ``'backward'``.
    """

    def run(**values: Any) -> Any:
        device = next(iter(values.values())).device  # the first argument of every operation is a tensor
        kernels = _choose_fused(operation, device, _asked_for())
        if kernels is None:
            raise RuntimeError(
                f'{operation} has no fused kernels for the back end {backend_for(device)!r} on {str(device)!r}: call '
                'the public function of mmlocalmamba.ops, which then uses PyTorch'
            )
        return getattr(kernels, function)(**values)

    return run


@lru_cache(maxsize=64)
def _import_fused(name: str, operation: str) -> ModuleType:
    return import_module(f'.{name}.{operation}', __name__)


@torch.compiler.assume_constant_result
def takes_factors(device: torch.device, name: str | None = None) -> bool:
    """Tell whether a device's back end takes ``dt_weight`` and ``log_A``; torch.compile takes that for granted."""
    return load_backend(backend_for(device, name)).TAKES_FACTORS


@lru_cache(maxsize=64)
def _choose(device: torch.device, name: str) -> str:
    if name != 'auto':
        reason = load_backend(name).why_not(device.type) or _disagreement(name, device)
        if reason is not None:
            raise RuntimeError(
                f'the scan back end {name!r} was asked for, but cannot run on {str(device)!r}: {reason} '
                f"(or use 'auto': unset {ENVIRONMENT_VARIABLE}, or pass backend='auto')"
            )
        level = logging.WARNING if name in _SLOW else logging.INFO
        logger.log(level, 'selective scan on %s: %sback end %r, as asked for', device, _speed(name), name)
        return name
    reasons: list[str] = []
    for candidate in AUTO_ORDER.get(device.type, _ANYWHERE):
        reason = load_backend(candidate).why_not(device.type)
        if reason is None:
            reason = _disagreement(candidate, device)
            if reason is None:
                _announce(device, candidate, reasons)
                return candidate
            logger.warning('selective scan on %s: back end %r is NOT USED: %s', device, candidate, reason)
        reasons.append(f'{candidate}: {reason}')
    raise RuntimeError(f'no scan back end can run on {str(device)!r}. ' + ' '.join(reasons))


@lru_cache(maxsize=64)
def interchangeable_backends(device: torch.device) -> tuple[str, ...]:
    """Give the fast back ends that could scan in place of the device's own, which comes first; it alone if forced."""
    chosen = backend_for(device)
    if chosen in _SLOW or os.environ.get(ENVIRONMENT_VARIABLE, 'auto') not in ('', 'auto'):
        return (chosen,)
    others = [name for name in AUTO_ORDER.get(device.type, _ANYWHERE) if name not in (chosen, *_SLOW)]
    usable = (n for n in others if load_backend(n).why_not(device.type) is None and _disagreement(n, device) is None)
    return (chosen, *usable)


def _disagreement(name: str, device: torch.device) -> str | None:
    """Try a kernel on a device it has not been tried on; what is wrong, if anything."""
    if name not in _CHECKED or device.type not in _CHECKED_DEVICES:
        return None
    from .self_check import self_check

    problem = self_check(load_backend(name), device)
    if problem is None:
        logger.info('selective scan on %s: back end %r agrees with the reference', device, name)
        return None
    return f'it does not agree with the reference here: {problem}. Please report this, with your GPU and versions.'


def _speed(name: str) -> str:
    return 'the SLOW ' if name in _SLOW else ''


def _announce(device: torch.device, name: str, reasons: list[str]) -> None:
    if name in _SLOW:
        why = f' Faster ones cannot run: {" ".join(reasons)}' if reasons else ''
        logger.warning('selective scan on %s: the SLOW pure-PyTorch back end %r.%s', device, name, why)
    else:
        logger.info('selective scan on %s: back end %r', device, name)
