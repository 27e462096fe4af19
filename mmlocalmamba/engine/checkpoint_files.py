"""Writes files so that a name always stands for a whole one, whenever the process or the machine stops."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

WHOLE_FILES = 'mmlocalmamba.whole_files'
"""Name of :class:`WholeFileBackend`: ``backend_args=dict(backend='mmlocalmamba.whole_files')``."""

LAST_CHECKPOINT = 'last_checkpoint'
"""MMEngine's name for the file in a work dir that names the last checkpoint."""

PARTIAL = '.partial'
"""Ends the name of a file that is being written."""

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file beside its place, bring it to the disk, and give it its name: until then the old file stays.

    Args:
        path: Where the file goes; missing folders are made.
        content: All of it.

    Raises:
        OSError: If it cannot be written. Nothing is left of it, an old file is as it was, and the message has the bytes
            that are needed and free.
    """
    path = Path(path)
    partial = path.with_name(path.name + PARTIAL)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, 'wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise OSError(error.errno, _explain(error, path, len(content))) from error
    _bring_folder_to_disk(path.parent)


def _explain(error: OSError, path: Path, needed: int) -> str:
    """Say why a file was not written."""
    text = f'could not write {path}, which needs {needed:,} bytes: {error.strerror}'
    with suppress(OSError):
        text += f' ({shutil.disk_usage(path.parent).free:,} bytes are free there)'
    if error.errno not in _NO_SPACE:
        return text
    if error.errno == errno.EFBIG:
        return f'{text}. Raise the limit on the size of files (ulimit -f)'
    return f'{text}. Free some space, or write elsewhere'


def _bring_folder_to_disk(folder: Path) -> None:
    """Make a new name survive a power failure; not every system and file system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class WholeFileBackend(LocalBackend):
    """MMEngine's backend for local files, with :func:`write_whole` for what it writes."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes to a file."""
        write_whole(filepath, obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text to a file."""
        write_whole(filepath, obj.encode(encoding))


register_backend(WHOLE_FILES, WholeFileBackend, force=True)
