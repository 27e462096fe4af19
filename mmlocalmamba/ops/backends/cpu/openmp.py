"""Finding the OpenMP runtime that PyTorch has loaded, for the kernel library to take its threads from.

Two OpenMP runtimes in one process each keep threads that spin for a while after their work, at the other's cost. So the
library is linked to none: it is handed the functions of the one that is there. Nothing is loaded here.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

# What each kind of runtime calls: fork, push_num_threads and thread_id of mmlocalmamba_set_runtime.
_ENTRIES: dict[str, tuple[str | None, ...]] = {
    'gomp': ('GOMP_parallel', None, None),  # GNU's libgomp, and the others where they stand in for it
    'kmp': ('__kmpc_fork_call', '__kmpc_push_num_threads', '__kmpc_global_thread_num'),  # LLVM's and Intel's
}
_QUERIES = ('omp_in_parallel', 'omp_get_thread_num', 'omp_get_num_threads')
_RUNTIME_FILES = re.compile(r'lib(gomp|omp|iomp5)\b.*\.(so|dylib)')


class Runtime(NamedTuple):
    """An OpenMP runtime of this process."""

    kind: str
    """``'gomp'`` or ``'kmp'``."""
    place: str
    """Where it was found, for people."""
    functions: tuple[int | None, ...]
    """Addresses in the order of ``mmlocalmamba_set_runtime``."""


def find_runtime() -> Runtime | None:
    """Find the OpenMP runtime that PyTorch uses; None if it has none."""
    for place, loaded in _loaded_libraries():
        for kind, entries in _ENTRIES.items():
            names = (*entries, *_QUERIES)
            if all(name is None or hasattr(loaded, name) for name in names):
                return Runtime(kind, place, tuple(_address(loaded, name) for name in names))
    return None


def _address(loaded: ctypes.CDLL, name: str | None) -> int | None:
    return None if name is None else ctypes.cast(getattr(loaded, name), ctypes.c_void_p).value


def _loaded_libraries() -> Iterator[tuple[str, ctypes.CDLL]]:
    """Give libraries to look for a runtime in, in the order in which PyTorch's own calls find one.

    What the whole process sees comes first: a preloaded runtime takes the place of the one that PyTorch was linked to.
    Then PyTorch's library, with all that it depends on; then any that is loaded.
    """
    if sys.platform == 'win32':
        yield from _loaded_windows_libraries()
        return
    yield 'this process', ctypes.CDLL(None)
    torch_libraries = Path(torch.__file__).parent / 'lib'
    paths = [*torch_libraries.glob('libtorch_cpu.*'), *torch_libraries.glob('lib*omp*.dylib'), *_mapped_runtimes()]
    for path in paths:
        try:
            yield str(path), ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD | os.RTLD_NOW)
        except OSError:  # it is not loaded
            continue


def _mapped_runtimes() -> list[Path]:
    """List the OpenMP runtimes among this process's loaded files; only Linux says."""
    maps = Path('/proc/self/maps')
    if not maps.exists():
        return []
    files = {Path(line.split(maxsplit=5)[-1]) for line in maps.read_text().splitlines() if line.count(' /')}
    return sorted(path for path in files if _RUNTIME_FILES.match(path.name))


def _loaded_windows_libraries() -> Iterator[tuple[str, ctypes.CDLL]]:
    for name in ('libiomp5md.dll', 'libomp140.x86_64.dll', 'libomp.dll'):
        find_module = ctypes.windll.kernel32.GetModuleHandleW  # type: ignore[attr-defined]
        find_module.restype = ctypes.c_void_p
        handle = find_module(name)
        if handle:
            yield name, ctypes.CDLL(name, handle=handle)
