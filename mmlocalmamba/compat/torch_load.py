"""Lets ``torch.load(weights_only=True)`` read MMEngine's checkpoints, without letting a hostile file run code.

A checkpoint of MMEngine's Runner holds, beside tensors, ``HistoryBuffer`` objects with NumPy arrays, and sometimes
``ConfigDict`` and ``argparse.Namespace`` ones; published files of VMamba hold a ``CfgNode`` of yacs. torch >= 2.6
refuses them all unless they are registered: mmengine 0.10.7 then fails, and onedl-mmengine loads again with full
unpickling, which runs whatever the file says.
"""

from __future__ import annotations

import argparse
import codecs
import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import NumpyVersion

from .declared_sizes import excess
from .engine import ConfigDict, HistoryBuffer

FORCE_SAFE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
_YES = ('1', 'y', 'yes', 'true')
_NO = ('0', 'n', 'no', 'false')

# HistoryBuffer pickles its own methods by way of builtins.getattr. The plain one would reach any attribute of anything.
_HISTORY_METHODS = ('min', 'max', 'current', 'mean')
# Every fixed-size number. The object dtype is left out: its arrays hold anything.
_DTYPES = '?bhilqBHILQefdFD'
_ZIP_START = b'PK\x03\x04'


def _history_getattr(owner: object, name: str) -> Any:
    """Stand in for ``getattr`` in a checkpoint: HistoryBuffer's statistics and nothing else."""
    if owner is not HistoryBuffer or name not in _HISTORY_METHODS:
        raise pickle.UnpicklingError(f'it asks for the attribute {name!r} of {owner!r}')
    return getattr(HistoryBuffer, name)


def _under_name(function: Callable[..., Any], module: str, name: str) -> Callable[..., Any]:
    """Return the function under the name that the file has for it; torch matches by name."""

    def alias(*args: Any) -> Any:
        return function(*args)

    alias.__module__, alias.__name__, alias.__qualname__ = module, name, name
    return alias


class _YacsConfig:
    """Stands in for ``yacs.config.CfgNode``, a dict: published files of VMamba hold the settings of their training.

    It makes OrderedDicts, since torch fills no other dicts than its own kinds.
    """

    def __new__(cls) -> OrderedDict[str, Any]:  # type: ignore[misc]
        return OrderedDict()


_YacsConfig.__module__, _YacsConfig.__name__, _YacsConfig.__qualname__ = 'yacs.config', 'CfgNode', 'CfgNode'


def _safe_globals() -> list[Callable[..., Any]]:
    """Return what MMEngine's checkpoints may hold beside tensors. None of it runs code that the file brings."""
    core = import_module('numpy.core' if NumpyVersion(np.__version__) < '2.0.0' else 'numpy._core')
    allowed: list[Callable[..., Any]] = [HistoryBuffer, ConfigDict, argparse.Namespace, np.ndarray, np.dtype]
    allowed.append(_under_name(_history_getattr, 'builtins', 'getattr'))
    allowed.append(_YacsConfig)
    allowed.append(codecs.encode)  # bytes are pickled as text; torch >= 2.5 allows it by itself
    for package in ('numpy.core', 'numpy._core'):  # the file may come from either side of NumPy 2
        allowed.append(_under_name(core.multiarray._reconstruct, f'{package}.multiarray', '_reconstruct'))
        allowed.append(_under_name(core.multiarray.scalar, f'{package}.multiarray', 'scalar'))
    return allowed + [type(np.dtype(code)) for code in _DTYPES]


SAFE_GLOBALS = tuple(_safe_globals())


def register_safe_globals() -> None:
    """Let this process's ``torch.load(weights_only=True)`` read what MMEngine's checkpoints hold.

    Call it before every load: onedl-mmengine takes its own, overlapping list out again after each of its loads.
    """
    torch.serialization.add_safe_globals(list(SAFE_GLOBALS))


def trusts_files() -> bool:
    """Tell whether the user has chosen full unpickling: ``TORCH_FORCE_WEIGHTS_ONLY_LOAD=0``.

    The variable is PyTorch's, which takes 1, y, yes and true, in any case, and all else for no. Here it is yes where it
    is not set or empty.

    Raises:
        ValueError: If it is neither yes nor no.
    """
    value = os.environ.get(FORCE_SAFE, '').lower()
    if value in ('', *_YES):
        return False
    if value in _NO:
        return True
    raise ValueError(
        f'{FORCE_SAFE}={os.environ[FORCE_SAFE]!r} in the environment is neither yes (1, y, yes, true) nor no (0, n, '
        'no, false). Unset it, or set it to 0 to load files that you trust by full unpickling, which runs their code'
    )


def refuse_unsafe_checkpoints() -> None:
    """Make every ``torch.load`` of this process and its children a safe one, whatever the caller asked for.

    Sets the environment variable ``TORCH_FORCE_WEIGHTS_ONLY_LOAD``, unless the user has set it to 0, to load a file
    that they trust.

    Raises:
        ValueError: If the user has set it to what is neither yes nor no.
    """
    if not trusts_files():
        os.environ[FORCE_SAFE] = '1'
    register_safe_globals()


def can_be_mapped(path: str | Path) -> bool:
    """Tell whether ``torch.load(mmap=True)`` takes a file: it wants a zip archive, and a path that is valid text.

    In a locale such as C, Python keeps other bytes of a path as surrogates, which PyTorch refuses there.
    """
    with open(path, 'rb') as file:
        is_zip = file.read(len(_ZIP_START)) == _ZIP_START
    return is_zip and not any('\ud800' <= letter <= '\udfff' for letter in str(path))


def load(path: str | Path, map_location: Any = 'cpu', mmap: bool = False) -> Any:
    """Load a checkpoint without full unpickling, which can run code; it cannot take far more memory than its size.

    Where the user has chosen ``TORCH_FORCE_WEIGHTS_ONLY_LOAD=0``, this is PyTorch's full loading.

    Args:
        path: A local file.
        map_location: Where its tensors go, as in ``torch.load``.
        mmap: Leave tensors' data on the disk, where that can be done.

    Raises:
        ValueError: If it does not load. The message names what is in the way, and how to load a file that is trusted.
    """
    mmap = mmap and can_be_mapped(path)
    if trusts_files():
        return torch.load(path, map_location=map_location, weights_only=False, mmap=mmap)
    register_safe_globals()
    try:
        problem = excess(path)
        if problem is None:
            return torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f'{path} is no checkpoint, or holds objects whose loading can run code that the file brings. '
            f'If you trust who made it, set {FORCE_SAFE}=0 in the environment and run the command again. '
            f'torch says: {error}'
        ) from error
    except (EOFError, RuntimeError) as error:  # PyTorch's format before 1.6, cut off
        raise ValueError(f'{path} is damaged or cut off, or is no checkpoint. torch says: {error}') from error
    raise ValueError(
        f'{path} would take far more memory than its own size: {problem}. No checkpoint of a model is like that. '
        f'If you trust who made it, set {FORCE_SAFE}=0 in the environment and run the command again'
    )


def check_checkpoint(path: str | Path) -> None:
    """Check that a checkpoint loads as :func:`load` does; tensors' data stay on the disk.

    Does nothing where the user has chosen ``TORCH_FORCE_WEIGHTS_ONLY_LOAD=0``.

    Args:
        path: A local file.

    Raises:
        ValueError: If it does not.
    """
    if not trusts_files():
        load(path, mmap=True)
