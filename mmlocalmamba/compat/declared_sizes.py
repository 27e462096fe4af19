"""Finds checkpoints that would take far more memory than their own size, before any of it is taken.

``torch.load(weights_only=True)`` runs no code of a file, but it does what the file says: it makes room for as many
numbers as a tensor claims to have, and for millions of empty objects. What a file of ``torch.save`` says stands in a
pickle of some 100 KB. It is read here as PyTorch would, with placeholders for everything that it asks for.
"""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import torch

MOST_INSTRUCTIONS = 1_000_000
"""Instructions of a pickle. The checkpoint of a detector with its optimizer has about 25,000."""

MOST_TIMES = 16
"""What a file may declare, in times its own size. Tensors that share their numbers make it more than one."""

_SLACK = 64 << 20
"""Bytes that any file may declare: small ones have some overhead."""

_LEGACY_PICKLES = 4
"""Pickles before the data in PyTorch's format before 1.6: magic number, version, system, and the content."""

_ITEM = 8
"""Bytes of an entry of a list or dict, and of the largest real numbers."""

_ENOUGH = 1 << 60
"""More bytes than there are; numbers are not multiplied beyond it."""

_PICKLE = re.compile(r'(?:(.+)/)?data\.pkl')
_ZIP_START = b'PK\x03\x04'
_ITEM_SIZES = {
    **dict.fromkeys(('ComplexDouble',), 16),
    **dict.fromkeys(('Double', 'Long', 'ComplexFloat'), 8),
    **dict.fromkeys(('Float', 'Int', 'QInt32'), 4),
    **dict.fromkeys(('Half', 'BFloat16', 'Short'), 2),
}
"""Bytes of a number by the names of PyTorch's storages; 1 in all others."""

_CALL = 1024
"""Bytes that an object may take by itself."""

_NEW_TENSOR = ('torch._utils._rebuild_tensor', 'torch._utils._rebuild_tensor_v2', 'torch._utils._rebuild_tensor_v3')
_BY_SHAPE = re.compile(r'builtins\.bytearray|torch\.Tensor|numpy\.ndarray|torch\..*Storage|.*\._reconstruct')
_DTYPE = re.compile(r'[<>=|]?[A-Za-z?]\d{0,2}')


class _ExcessError(Exception):
    """A checkpoint asks for more than it may; the message is a clause that says of what."""


def excess(path: str | Path) -> str | None:
    """Say what a checkpoint asks for beyond its own size.

    Takes a few ms for a usual checkpoint; tensors' data are not read.

    Args:
        path: A local file that ``torch.save`` has written.

    Returns:
        A clause such as "its pickle has more than 1,000,000 instructions"; None if all is well, or if the file is
        damaged in a way that PyTorch tells itself.

    Raises:
        pickle.UnpicklingError: If its pickle is none that ``torch.save`` writes.
        OSError: If it cannot be read.
    """
    size = Path(path).stat().st_size
    with open(path, 'rb') as file:
        is_zip = file.read(len(_ZIP_START)) == _ZIP_START
        file.seek(0)
        try:
            if is_zip:
                _check_archive(file, size)
            else:
                scan = _Scan(size, {})
                for _ in range(_LEGACY_PICKLES):
                    scan.run(file)
        except _ExcessError as found:
            return str(found)
        except zipfile.BadZipFile:  # cut off
            return None
    return None


def _check_archive(file: IO[bytes], size: int) -> None:
    """Check an archive's directory and its pickles, or raise."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        packed = [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]
        if packed:
            raise _ExcessError(f'its part {packed[0]} is compressed, which torch.save never does')
        claimed = sum(member.file_size for member in members)
        if claimed > size:
            raise _ExcessError(f'its parts claim {claimed:,} bytes together, more than the file has')
        sizes = {member.filename: member.file_size for member in members}
        for name in sizes:
            found = _PICKLE.fullmatch(name)
            if found:
                folder = f'{found[1]}/data/' if found[1] else 'data/'
                parts = {key.removeprefix(folder): n for key, n in sizes.items() if key.startswith(folder)}
                _Scan(size, parts).run(io.BytesIO(archive.read(name)))


class _Scan:
    """Counts what the pickles of one file ask for.

    Args:
        size: Bytes of the file.
        parts: Bytes of each storage by its key; empty in the old format, where they have no directory.
    """

    def __init__(self, size: int, parts: dict[str, int]) -> None:
        self.size, self.parts = size, parts
        self.limit = MOST_TIMES * size + _SLACK
        self.instructions = self.total = self.stored = 0
        self.seen: set[Any] = set()

    def run(self, file: IO[bytes]) -> None:
        """Go through one pickle, or raise."""
        try:
            _Dry(file, self).load()
        except (_ExcessError, pickle.UnpicklingError):
            raise
        except Exception as error:  # whatever nonsense it has, PyTorch must not try it
            problem = f'{type(error).__name__}: {error}'
            raise pickle.UnpicklingError(f'its pickle is not one of torch.save ({problem})') from error

    def add(self, amount: int, what: str) -> None:
        self.total += amount
        if self.total > self.limit:
            raise _ExcessError(f'it asks for {self.total:,} bytes and more, {what}')

    def storage(self, pid: Any) -> _Storage:
        """Check a storage that the pickle refers to."""
        if not isinstance(pid, tuple):  # a deduplicated one of the old format
            return _Storage(1, 0)
        kind, key, count = pid[1], pid[2], pid[4]
        if not (isinstance(key, (str, bytes, int)) and isinstance(count, int) and 0 <= count < _ENOUGH):
            raise pickle.UnpicklingError('it has a tensor without a place or a size')
        item = _item_size(kind.name)
        amount, there = count * item, self.parts.get(str(key), self.size)
        if amount > there:
            raise _ExcessError(f'a tensor claims {amount:,} bytes, but the file has {there:,} for it')
        if key not in self.seen:
            self.seen.add(key)
            self.stored += amount
            if self.stored > self.size:
                raise _ExcessError(f'its tensors claim {self.stored:,} bytes together, more than the file has')
        return _Storage(item, count)

    def call(self, name: str, arguments: Any) -> Any:
        """Count what a call asks for."""
        arguments = arguments if isinstance(arguments, tuple) else (arguments,)
        if name in _NEW_TENSOR:
            storage, _, shape = arguments[:3]
            item = _item_size(arguments[6].name) if name.endswith('v3') else storage.item
            self.add(_count(shape) * item, 'by the shapes of its tensors')
        elif name == 'numpy.dtype':
            if not (isinstance(arguments[0], str) and _DTYPE.fullmatch(arguments[0])):
                raise _ExcessError('it has an array of something else than numbers')
        else:
            amount = _ITEM * _count(arguments) if _BY_SHAPE.fullmatch(name) else 0
            self.add(amount + _extent(arguments) + _CALL, f'by {name[:80]}')
        return _Thing(self, name)


def _item_size(name: str) -> int:
    """Give the bytes of a number of a storage or dtype, such as 'torch.FloatStorage' or 'torch.float32'."""
    name = name.rpartition('.')[2]
    dtype = getattr(torch, name, None) if name[:1].islower() else None
    return dtype.itemsize if isinstance(dtype, torch.dtype) else _ITEM_SIZES.get(name.removesuffix('Storage'), 1)


def _count(values: Iterable[Any], total: int = 1) -> int:
    """Multiply the whole numbers among values, and in tuples and lists among them: they may be a shape."""
    for value in values:
        numbers = value if isinstance(value, (tuple, list)) else (value,)
        for number in numbers:
            if isinstance(number, int) and total < _ENOUGH:  # a number may have millions of digits
                total *= min(abs(number), _ENOUGH)
    return total


def _extent(values: tuple[Any, ...]) -> int:
    """Count the bytes of texts and the entries of containers among values: a call may copy them."""
    total = 0
    for value in values:
        if isinstance(value, (str, bytes, bytearray)):
            total += len(value)
        elif isinstance(value, (list, dict, set, tuple)):
            total += _ITEM * len(value)
    return total


class _Storage:
    """Stands for the numbers of a tensor."""

    __slots__ = ('count', 'item')

    def __init__(self, item: int, count: int) -> None:
        self.item, self.count = item, count


class _Thing:
    """Stands for an object that the pickle makes; takes whatever is put into it."""

    def __init__(self, scan: _Scan, name: str) -> None:
        self._scan, self._name = scan, name

    def __setstate__(self, state: Any) -> None:
        parts = state if isinstance(state, tuple) else (state,)
        self._scan.add(_extent(parts), self._name)
        if self._name == 'numpy.dtype' and any(isinstance(part, int) and part > 64 for part in parts):
            raise _ExcessError('it has an array of numbers of more than 64 bytes')

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None:
        """Take a value."""

    def extend(self, values: Any) -> None:
        """Take values."""

    def add(self, value: Any) -> None:
        """Take a value."""


class _Global:
    """Stands for a function or class that the pickle names."""

    __slots__ = ('name', 'scan')

    def __init__(self, scan: _Scan, name: str) -> None:
        self.scan, self.name = scan, name

    def __call__(self, *arguments: Any) -> Any:
        return self.scan.call(self.name, arguments)


# Python's own version in Python: the one in C makes room for as many remembered objects as the file claims to have.
class _Dry(pickle._Unpickler):
    """Goes through a pickle without making any object that it asks for."""

    def __init__(self, file: IO[bytes], scan: _Scan) -> None:
        super().__init__(file, encoding='latin1')
        self._scan = scan
        self.read, self.readline = file.read, file.readline
        self.metastack: list[list[Any]] = []
        self.stack: list[Any] = []
        self.append = self.stack.append
        self.proto = 0

    def load(self) -> None:
        """Carry out one instruction after another. PyTorch knows none of those that pickle has added since 3.4."""
        table: dict[int, Any] = {**pickle._Unpickler.dispatch, pickle.NEWOBJ[0]: _Dry.load_newobj}
        read, scan = self.read, self._scan
        for count in range(scan.instructions, MOST_INSTRUCTIONS):
            key = read(1)
            if key == pickle.STOP:
                scan.instructions = count
                return
            table[key[0]](self)
        raise _ExcessError(f'its pickle has more than {MOST_INSTRUCTIONS:,} instructions')

    def find_class(self, module: str, name: str) -> Any:
        return _Global(self._scan, f'{module}.{name}'.replace('__builtin__', 'builtins'))

    def persistent_load(self, pid: Any) -> Any:
        return self._scan.storage(pid)

    def load_newobj(self) -> None:
        arguments = self.stack.pop()
        self.stack.append(self.stack.pop()(*arguments))
