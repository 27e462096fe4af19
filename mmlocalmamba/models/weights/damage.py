"""Finds checkpoints that are cut off or changed, by the checksums that every one of them has inside."""

from __future__ import annotations

import errno
import lzma
import os
import struct
import zipfile
import zlib
from pathlib import Path

_ZIP_START = b'PK\x03\x04'
_ZIP_END = b'PK\x05\x06'
_LONGEST_END = 22 + (1 << 16)
"""Bytes of the record that ends an archive, with the longest comment."""

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
    in small pieces.

    Args:
        path: A local file.

    Returns:
        A clause such as "it is cut off after 1,024 bytes"; None for a whole file, and for one in PyTorch's format
        before 1.6, which has no checksums.

    Raises:
        OSError: If it cannot be read.
    """
    size = Path(path).stat().st_size
    if size == 0:
        return 'it is empty'
    with open(path, 'rb') as file:
        if file.read(len(_ZIP_START)) != _ZIP_START:
            return None
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
    return None if broken is None else f'its part {broken} differs from its checksum'
