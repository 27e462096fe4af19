"""The kernel library: loading it, checking that it fits, and calling its functions with tensors.

``setup.py`` builds it from ``mmlocalmamba/ops/csrc`` into this folder. It contains neither PyTorch nor Python, so one
file serves every version of both. It describes its own functions, and calls are packed by that description.
"""

from __future__ import annotations

import ctypes
import json
import logging
import struct
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .fingerprint import source_fingerprint
from .openmp import find_runtime

INTERFACE = 1
"""The version of csrc/interface.h that this file speaks."""

FOLDER = Path(__file__).resolve().parent
SOURCES = FOLDER.parents[1] / 'csrc'
REBUILD = '`pip install -e .` in a checkout of mmlocalmamba'

_FILE_NAMES = {'win32': 'mmlocalmamba.dll', 'darwin': 'libmmlocalmamba.dylib'}
_DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3, torch.int32: 4}
_MOST_DIMS = 5


_ABSENT = (0, 0, -1)
"""A tensor's address, dtype and number of dimensions where there is none."""


@lru_cache(maxsize=256)
def _tensor_packer(dims: tuple[int, ...]) -> Callable[..., bytes]:
    """Make the function that packs an array of struct Tensor of csrc/interface.h.

    Args:
        dims: Number of dimensions of each tensor.

    Returns:
        It takes each tensor's address, dtype, number of dimensions, sizes and strides, all in a row.
    """
    layout = ''
    for count in dims:
        unused = f'{8 * (_MOST_DIMS - count)}x'
        layout += f'{3 + count}q{unused}{count}q{unused}'
    return struct.Struct(layout).pack


class MissingLibraryError(FileNotFoundError):
    """The kernel library has not been built."""


class BrokenLibraryError(RuntimeError):
    """The kernel library cannot be loaded, or was built from other sources than those beside it."""


class Function:
    """A function of the library, called with keywords: tensors on the CPU, and numbers.

    Every argument must be named; None stands for an optional tensor that is absent. Outputs are tensors that the caller
    has allocated.

    Attributes:
        tensors: Names of all tensors; ``optional`` and ``outputs`` are some of them.
        numbers: Names of the numbers.

    Raises:
        TypeError: If an argument is missing or unknown, or a number stands in a tensor's place.
        ValueError: If the library refuses an argument; the message says what it wants.
        MemoryError: If there is no memory for what the function needs inside.
    """

    def __init__(self, call: Any, name: str, description: dict[str, list[str]]) -> None:
        self.name = name
        self.tensors = tuple(description['tensors'])
        self.optional = tuple(description['optional'])
        self.outputs = tuple(description['outputs'])
        self.numbers = tuple(description['numbers'])
        self._call = call
        self._size = len(self.tensors) + len(self.numbers)
        self._pack_numbers = struct.Struct(f'{len(self.numbers)}d').pack

    def __call__(self, **arguments: Tensor | float | None) -> None:
        """Call it with as many threads as PyTorch uses."""
        described: list[int] = []
        dims: list[int] = []
        try:
            for name in self.tensors:
                tensor: Any = arguments[name]
                if tensor is None:
                    described += _ABSENT
                    dims.append(0)
                    continue
                shape = tensor.shape
                count = len(shape)
                if not tensor.is_cpu or count > _MOST_DIMS or tensor.is_neg():
                    raise LookupError
                dims.append(count)
                described += (tensor.data_ptr(), _DTYPES[tensor.dtype], count)
                described += shape
                described += tensor.stride()
            tensors = _tensor_packer(tuple(dims))(*described)
            numbers = self._pack_numbers(*[arguments[name] for name in self.numbers])
        except (LookupError, AttributeError, RuntimeError, struct.error):  # RuntimeError: it has no memory of its own
            raise self._refusal(arguments) from None
        if len(arguments) != self._size:
            raise self._refusal(arguments)
        # Bytes go to C as they are, without a copy; both are this call's own, whatever other threads do.
        message = self._call(tensors, numbers, torch.get_num_threads())
        if message is not None:
            text = message.decode()
            raise MemoryError(text) if text.endswith('out of memory') else ValueError(text)

    def _refusal(self, arguments: dict[str, Tensor | float | None]) -> Exception:
        """Say what is wrong with arguments that cannot be packed."""
        known = (*self.tensors, *self.numbers)
        unknown = [name for name in arguments if name not in known]
        missing = [name for name in known if name not in arguments]
        if unknown or missing:
            return TypeError(f'{self.name}() takes {", ".join(known)}; missing: {missing}, unknown: {unknown}')
        for name in self.tensors:
            tensor = arguments[name]
            if not isinstance(tensor, Tensor):
                continue
            what = f'{self.name}: {name} is {tensor.dtype} {tuple(tensor.shape)} on {tensor.device}'
            if not tensor.is_cpu:
                return ValueError(f'{what}, but the library computes on the CPU')
            if tensor.layout != torch.strided:
                return ValueError(f'{what} in the layout {tensor.layout}, but the library takes dense tensors')
            if tensor.dtype not in _DTYPES:
                return ValueError(f'{what}, but must be one of {", ".join(str(dtype) for dtype in _DTYPES)}')
            if tensor.is_neg():  # its memory holds the numbers with the other sign
                return ValueError(f'{what}, but is a negated view, as of conj().imag: pass {name}.resolve_neg()')
            if tensor.dim() > _MOST_DIMS:
                return ValueError(f'{what}, but {_MOST_DIMS} dimensions at most go')
        kinds = {name: type(value).__name__ for name, value in arguments.items()}
        return TypeError(f'{self.name}() takes tensors {self.tensors} and numbers {self.numbers}, got {kinds}')


class Library:
    """The loaded library; each of its functions is an attribute.

    Attributes:
        path: Its file.
        chunk: Tokens between two of the states that the scan keeps for its backward.
        functions: All functions, by their names.
        runtime: The OpenMP runtime that it takes threads from, for people; None if it has one thread only.
    """

    def __init__(self, path: Path, loaded: ctypes.CDLL, description: dict[str, Any]) -> None:
        self.path = path
        self.chunk: int = description['chunk']
        self.functions: dict[str, Function] = {}
        for name, arguments in description['functions'].items():
            call = _exported(loaded, name, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int64)
            self.functions[name] = Function(call, name, arguments)
        self.__dict__.update(self.functions)
        self._instruction_sets = _exported(loaded, 'instruction_sets')
        self._use_instruction_set = _exported(loaded, 'use_instruction_set', ctypes.c_char_p)
        self.runtime = _hand_over_threads(_exported(loaded, 'set_runtime', ctypes.c_char_p, *[ctypes.c_void_p] * 6))

    def __getattr__(self, name: str) -> Function:
        raise AttributeError(f'{self.__dict__.get("path")} has no function {name}')

    def instruction_sets(self) -> list[str]:
        """List the instruction sets that this processor has, fastest first."""
        return self._instruction_sets().decode().split()

    def use_instruction_set(self, name: str) -> None:
        """Compute with another instruction set than the fastest; ValueError if the processor lacks it."""
        message = self._use_instruction_set(name.encode())
        if message is not None:
            raise ValueError(message.decode())


@lru_cache(maxsize=1)
def library() -> Library:
    """Load the library; raises MissingLibraryError or BrokenLibraryError, which say what to do."""
    return load_library(FOLDER / _FILE_NAMES.get(sys.platform, 'libmmlocalmamba.so'), SOURCES)


def load_library(path: Path, sources: Path) -> Library:
    """Load a library and check that it fits this file, and the sources if they are there.

    Args:
        path: The library's file.
        sources: The folder csrc that it should have been built from; an installed package may lack it.

    Raises:
        MissingLibraryError: If there is no such file.
        BrokenLibraryError: If it cannot be loaded, or fits neither this file nor the sources.
    """
    if not path.exists():
        raise MissingLibraryError(f'the kernel library {path} is not built; to build it: {REBUILD}')
    _check_whole(path)
    try:
        loaded = ctypes.CDLL(str(path))
        description = json.loads(_exported(loaded, 'describe')())
        _check(path, description, sources)
        return Library(path, loaded, description)
    except (OSError, AttributeError, KeyError, ValueError) as error:
        raise BrokenLibraryError(
            f'the kernel library {path} cannot be used ({type(error).__name__}: {error}); to build it anew: {REBUILD}'
        ) from error


def _exported(loaded: ctypes.CDLL, name: str, *argument_types: Any) -> Any:
    """Give an exported function; all of them return text, or null."""
    function = getattr(loaded, f'mmlocalmamba_{name}')
    function.restype = ctypes.c_char_p
    function.argtypes = argument_types
    return function


def _check(path: Path, description: dict[str, Any], sources: Path) -> None:
    if description['interface'] != INTERFACE:
        raise BrokenLibraryError(
            f'the kernel library {path} has interface {description["interface"]}, but this mmlocalmamba wants '
            f'{INTERFACE}; to build it anew: {REBUILD}'
        )
    if sources.is_dir() and description['sources'] != source_fingerprint(sources):
        raise BrokenLibraryError(
            f'the kernel library {path} was built from other sources than those in {sources}; to build it anew: '
            f'{REBUILD}'
        )


def _check_whole(path: Path) -> None:
    """Refuse a file that a killed build left unfinished: where it is mapped past its end, the process would be killed.

    An ELF file ends with the table of its sections, whose place its header tells.
    """
    with path.open('rb') as file:
        header = file.read(64)
    if header[:5] != b'\x7fELF\x02' or len(header) < 64:
        return
    (sections,) = struct.unpack_from('<Q', header, 40)
    entry_size, entries = struct.unpack_from('<2H', header, 58)
    if path.stat().st_size < sections + entry_size * entries:
        raise BrokenLibraryError(f'the kernel library {path} is cut off; to build it anew: {REBUILD}')


def _hand_over_threads(set_runtime: Any) -> str | None:
    """Let the library take threads from PyTorch's OpenMP runtime; returns where that was found, None if nowhere."""
    logger = logging.getLogger('mmlocalmamba')
    runtime = find_runtime()
    if runtime is None:
        logger.warning(
            'This PyTorch has no OpenMP runtime whose threads the kernel library could take: it computes with one '
            'thread. %s',
            torch.__config__.parallel_info().splitlines()[-1],
        )
        return None
    message = set_runtime(runtime.kind.encode(), *runtime.functions)
    if message is not None:
        raise ValueError(message.decode())
    logger.info('The kernel library takes threads from the OpenMP runtime of %s (%s).', runtime.place, runtime.kind)
    return f'{runtime.kind}: {runtime.place}'
