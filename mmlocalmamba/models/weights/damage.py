"""Finds checkpoints that are cut off or changed, by the checksums that every one of them has inside."""

from __future__ import annotations

import errno
import hashlib
import lzma
import os
import re
import struct
import zipfile
import zlib
from pathlib import Path

_ZIP_START = b'PK\x03\x04'
_ZIP_END = b'PK\x05\x06'
_LONGEST_END = 22 + (1 << 16)
"""Bytes of the record that ends an archive, with the longest comment."""

_HASH = re.compile(r'-([0-9a-f]{8,64})\.')
_DATE = re.compile(r'(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])')
_PIECE = 1 << 20
"""Bytes that are read at a time."""

_UNREADABLE = (
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
    struct.error,
    EOFError,
    IndexError,
    NotImplementedError,  # flags and methods that no checkpoint has
    OverflowError,
    RuntimeError,
    ValueError,
)


def damage(path: str | Path) -> str | None:
    """Say in which way a checkpoint is damaged.

    ``torch.save`` writes a zip archive, whose directory comes last and holds a CRC-32 of every tensor. ``torch.load``
    does not compare them: a tensor with a changed bit loads as if nothing were wrong. This reads the whole file once,
    in small pieces. A hash in its name is compared, too: see :func:`wrong_hash`.

    Args:
        path: A local file.

    Returns:
        A clause such as "it is cut off after 1,024 bytes"; None for a whole file, and for one in PyTorch's format
        before 1.6, which has no checksums, unless its name has.

    Raises:
        OSError: If it cannot be read.
    """
    size = Path(path).stat().st_size
    if size == 0:
        return 'it is empty'
    with open(path, 'rb') as file:
        if file.read(len(_ZIP_START)) != _ZIP_START:
            return wrong_hash(path)
        try:
            with zipfile.ZipFile(file) as archive:
                broken = archive.testzip()
        except (*_UNREADABLE, OSError) as error:
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # the disk's, not the file's
                raise
            file.seek(-min(size, _LONGEST_END), os.SEEK_END)
            if _ZIP_END not in file.read():
                return f'it is cut off after {size:,} bytes'
            return f'its directory is damaged ({error})'
    return wrong_hash(path) if broken is None else f'its part {broken} differs from its checksum'


def wrong_hash(path: str | Path, name: str | None = None) -> str | None:
    """Compare a file with the hash in its name, if there is one.

    Published files are named ``<name>-<start of their SHA-256>.pth``, with 8 hexadecimal digits or more, as PyTorch and
    OpenMMLab do. Eight digits that are a date, such as 20240131, are none.

    Args:
        path: A local file.
        name: Its name. Default: that of the path.

    Returns:
        A clause that says how they differ; None if they agree, or if the name has no hash.
    """
    found = _HASH.search(name if name is not None else Path(path).name)
    if found is None or _DATE.fullmatch(found[1]):
        return None
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    actual = digest.hexdigest()
    if actual.startswith(found[1]):
        return None
    return (
        f'its SHA-256 starts with {actual[: len(found[1])]}, but its name says {found[1]} (if that is not meant as its '
        'hash, rename the file)'
    )
