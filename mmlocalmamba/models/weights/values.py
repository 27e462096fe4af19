"""Checks that the tensors of a checkpoint can be weights: they have names, and finite real numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_SHOWN = 8
_INTEGERS = (torch.int64, torch.int32)
"""What counters and tables of indices may have; PyTorch copies any dtype into any other without a word."""


def check_weights(state: Mapping[Any, Any], source: str | Path, own: Mapping[str, Tensor] | None = None) -> None:
    """Check the tensors of a state dict.

    Counters and indices may be int32 and int64. All else is float16, bfloat16, float32 or float64.

    Args:
        state: Tensors by name; values that are no tensors are left alone.
        source: What they come from, for messages.
        own: Tensors of the model by name, if it is known: what has another dtype there may have it in the file.

    Raises:
        ValueError: If there is a tensor without a name, of a dtype or layout that no weights have, or with NaN or
            infinity. The message names the tensors.
    """
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    nameless = [repr(name) for name in tensors if not isinstance(name, str)]
    if nameless:
        raise ValueError(
            f'{source} has {len(nameless)} tensors under keys that are no names ({_listing(nameless)}): want those of '
            'state_dict(), such as "backbone.patch_embed.0.weight"'
        )
    own = own or {}
    strange = [
        f'{name} is {_kind(value)}'
        for name, value in tensors.items()
        if value.layout != torch.strided or not (_is_weight(value.dtype) or _has_dtype(own.get(name), value.dtype))
    ]
    if strange:
        raise ValueError(
            f'{source} has {len(strange)} tensors that are no weights: {_listing(strange)}. Want float32, or float16, '
            'bfloat16 or float64: convert them back from what they were quantised or packed to'
        )
    broken = [name for name, value in tensors.items() if _is_real(value.dtype) and not _is_finite(value)]
    if broken:
        raise ValueError(
            f'{source} has NaN or infinity in {len(broken)} of {len(tensors)} tensors: {_listing(broken)}. It was '
            'saved after a training that diverged: take an earlier checkpoint'
        )


def _is_real(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point and dtype.itemsize > 1


def _is_weight(dtype: torch.dtype) -> bool:
    return _is_real(dtype) or dtype in _INTEGERS


def _has_dtype(tensor: Tensor | None, dtype: torch.dtype) -> bool:
    return tensor is not None and tensor.dtype == dtype


def _is_finite(tensor: Tensor) -> bool:
    """Tell whether all numbers are finite; the sum tells it in nearly every case, and takes no memory."""
    if tensor.is_meta or math.isfinite(tensor.detach().sum(dtype=_wide(tensor)).item()):
        return True
    return bool(torch.isfinite(tensor).all())


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def _kind(tensor: Tensor) -> str:
    layout = '' if tensor.layout == torch.strided else f', {str(tensor.layout).removeprefix("torch.")}'
    return str(tensor.dtype).removeprefix('torch.') + layout


def _listing(names: Iterable[str]) -> str:
    names = list(names)
    return ', '.join(names[:_SHOWN]) + (f', and {len(names) - _SHOWN} more' if len(names) > _SHOWN else '')
