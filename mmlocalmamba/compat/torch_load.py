"""Lets ``torch.load(weights_only=True)`` read MMEngine's checkpoints, without letting a hostile file run code.

A checkpoint of MMEngine's Runner holds, beside tensors, ``HistoryBuffer`` objects with NumPy arrays, and sometimes
``ConfigDict`` and ``argparse.Namespace`` ones. torch >= 2.6 refuses them all unless they are registered:
mmengine 0.10.7 then fails, and onedl-mmengine loads again with full unpickling, which runs whatever the file says.
"""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from numpy.lib import NumpyVersion

FORCE_SAFE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'

# HistoryBuffer pickles its own methods by way of builtins.getattr. The plain one would reach any attribute of anything.
_HISTORY_METHODS = ('min', 'max', 'current', 'mean')
# Every fixed-size number. The object dtype is left out: its arrays hold anything.
_DTYPES = '?bhilqBHILQefdFD'


def _history_getattr(owner: object, name: str) -> Any:
    """Stand in for ``getattr`` in a checkpoint: HistoryBuffer's statistics and nothing else."""
    if owner is not HistoryBuffer or name not in _HISTORY_METHODS:
        raise AttributeError(f'the checkpoint asks for the attribute {name!r} of {owner!r}, which is refused for safety')
    return getattr(HistoryBuffer, name)


def safe_globals() -> list[tuple[Callable[..., Any], str]]:
    """Return what MMEngine's checkpoints may hold: (object, its name in the file). None of it runs code of the file."""
    core = np.core if NumpyVersion(np.__version__) < '2.0.0' else np._core
    allowed: list[tuple[Callable[..., Any], str]] = [
        (HistoryBuffer, 'mmengine.logging.history_buffer.HistoryBuffer'),
        (_history_getattr, 'builtins.getattr'),
        (ConfigDict, 'mmengine.config.config.ConfigDict'),
        (argparse.Namespace, 'argparse.Namespace'),
        (np.ndarray, 'numpy.ndarray'),
        (np.dtype, 'numpy.dtype'),
    ]
    for package in ('numpy.core', 'numpy._core'):  # the file may come from either side of NumPy 2
        allowed.append((core.multiarray._reconstruct, f'{package}.multiarray._reconstruct'))
        allowed.append((core.multiarray.scalar, f'{package}.multiarray.scalar'))
    kinds = {type(np.dtype(code)) for code in _DTYPES}
    allowed += [(kind, f'{kind.__module__}.{kind.__qualname__}') for kind in sorted(kinds, key=str)]
    return allowed


@functools.lru_cache(maxsize=1)
def register_safe_globals() -> None:
    """Register :func:`safe_globals` with torch, for this process, once."""
    allowed = safe_globals()
    if _takes_names():
        torch.serialization.add_safe_globals(allowed)
        return
    torch.serialization.add_safe_globals([_named(function, name) for function, name in allowed])


def refuse_unsafe_checkpoints() -> None:
    """Make every ``torch.load`` of this process and its children a safe one, whatever the caller asked for.

    Sets the environment variable ``TORCH_FORCE_WEIGHTS_ONLY_LOAD``, unless the user has set it (to 0, to load a file
    that they trust).
    """
    os.environ.setdefault(FORCE_SAFE, '1')
    register_safe_globals()


def check_checkpoint(path: str | Path) -> None:
    """Check that a checkpoint holds nothing that only full unpickling, which can run code, would load.

    Reads the names in the file, not its tensors. A file in torch's format of before version 1.6 is left to torch.load.

    Args:
        path: A local file.

    Raises:
        ValueError: If it does. The message names the objects and says how to load a file that is trusted.
    """
    register_safe_globals()
    list_unsafe = getattr(torch.serialization, 'get_unsafe_globals_in_checkpoint', None)  # torch >= 2.6
    if list_unsafe is None or os.environ.get(FORCE_SAFE) == '0' or not torch.serialization._is_zipfile_path(path):
        return
    unsafe = list_unsafe(path)
    if unsafe:
        raise ValueError(
            f'the checkpoint {path} holds {", ".join(sorted(unsafe))}: loading them can run code that the file brings. '
            f'If you trust who made it, set {FORCE_SAFE}=0 in the environment and run the command again.'
        )
