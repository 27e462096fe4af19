"""Tuning the sizes of work of the fused Triton kernels that stand around the scan: see :mod:`.tuning`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from .tuning import size_class, tuned

Settings = TypeVar('Settings')


@dataclass(frozen=True)
class Variant:
    """A change of an operation's default settings.

    Attributes:
        fields: Names of the setting to change; the first that there is counts.
        factor: By how much.
    """

    fields: tuple[str, ...] = ()
    factor: float = 1

    def __str__(self) -> str:
        return f'{" or ".join(self.fields)} x {self.factor:g}' if self.fields else 'default'

    def of(self, default: Settings) -> Settings:
        """Change settings; those that have none of the fields stay as they are."""
        for field in self.fields:
            if hasattr(default, field):
                return replace(default, **{field: max(1, int(getattr(default, field) * self.factor))})  # type: ignore[type-var]
        return default


_DATA = ('vector', 'elements', 'columns')  # how much a thread holds
VARIANTS = (Variant(), Variant(('warps',), 2), Variant(('warps',), 0.5), Variant(_DATA, 0.5), Variant(_DATA, 2))


class _Current(threading.local):
    """What the call that this thread is in has been tuned to."""

    variant = Variant()


_current = _Current()


def run_tuned(operation: str, function: str, call: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    """Call an operation's Triton implementation with the settings that are fastest for its tensors.

    Args:
        operation: Name of the operation.
        function: ``'forward'`` or ``'backward'``.
        call: The implementation.
        values: Its keyword arguments.
    """
    from .backends.triton.launch import set_tuner  # which imports Triton

    set_tuner(operation, lambda default, sizes: _current.variant.of(default))

    def run(variant: Variant) -> Any:
        before, _current.variant = _current.variant, variant
        try:
            return call(**values)
        finally:
            _current.variant = before

    first = next(value for value in values.values() if isinstance(value, Tensor))
    *sizes, channels = first.shape
    dtype = str(first.dtype).removeprefix('torch.')
    problem = (operation, function, dtype, *map(size_class, sizes), f'D={channels}')
    return run(tuned(problem, lambda: VARIANTS, run, first))


def tunes(name: str, device: torch.device) -> bool:
    """Tell whether a back end's fused kernels are tuned on a device: those of Triton, on GPUs."""
    return name == 'triton' and device.type == 'cuda'
