"""Leaving automatic mixed precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

_NOTHING = nullcontext()


def in_autocast(device_type: str) -> bool:
    """Tell whether autocast is on for a type of device; on 'meta', where nothing is computed, there is none."""
    return device_type != 'meta' and torch.is_autocast_enabled(device_type)


def outside_autocast(device_type: str) -> AbstractContextManager[None]:
    """Give a context in which nothing is cast; one that costs nothing where autocast is off anyway."""
    return torch.autocast(device_type, enabled=False) if in_autocast(device_type) else _NOTHING
