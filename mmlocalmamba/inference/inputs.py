"""Which pictures and videos a user means by a file, a folder or a pattern."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.jp2', '.npy', '.png', '.ppm', '.tif', '.tiff', '.webp')
VIDEO_SUFFIXES = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm', '.wmv')


@dataclass(frozen=True)
class Source:
    """A picture or a video.

    Attributes:
        path: The file.
        name: Its path relative to the folder that was asked for, with ``/`` between the parts.
        stem: The name without its suffix, unless another file would have the same: what results are named after.
        is_video: Whether it is a video.
    """

    path: Path
    name: str
    stem: str
    is_video: bool


def find_sources(text: str, leave_out: Path | None = None) -> list[Source]:
    """Find the pictures and videos of a file, of a folder and its subfolders, or of a pattern such as ``data/*.jpg``.

    A file that is named itself may have any suffix. In folders, and in what a pattern matches, files whose suffixes
    are neither those of pictures nor those of videos are passed over.

    Args:
        text: File, folder or pattern (``*``, ``?``, ``[...]``, and ``**`` for any number of folders).
        leave_out: A folder whose files do not count: that of the results, which may lie inside the input folder.

    Returns:
        At least one, sorted by path.

    Raises:
        FileNotFoundError: If there is no such file or folder, or nothing matches.
        ValueError: If nothing that was found is a picture or a video.
    """
    path = Path(text)
    if path.is_file():
        return _sources([path], path.parent)
    if path.is_dir():
        found = [entry for entry in path.rglob('*') if entry.is_file()]
        root = path
    else:
        found = [Path(name) for name in glob.glob(text, recursive=True) if Path(name).is_file()]
        if not found:
            raise FileNotFoundError(
                f'{text!r} is neither a file nor a folder, and no file matches it as a pattern (relative paths start '
                f'at {Path.cwd()})'
            )
        root = Path(os.path.commonpath([entry.parent for entry in found]))
    inside = leave_out.resolve() if leave_out is not None else None
    media = [
        entry
        for entry in sorted(found)
        if entry.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES
        and (inside is None or not entry.resolve().is_relative_to(inside))
    ]
    if not media:
        raise ValueError(
            f'{text!r} holds {len(found)} files, none of them a picture ({", ".join(IMAGE_SUFFIXES)}) or a video '
            f'({", ".join(VIDEO_SUFFIXES)})'
        )
    return _sources(media, root)


def _sources(files: Iterable[Path], root: Path) -> list[Source]:
    """Name the results of files, so that ``a.jpg`` and ``a.png`` do not overwrite each other's."""
    names = {path: path.relative_to(root) for path in files}
    stems = Counter(name.with_suffix('') for name in names.values())
    return [
        Source(
            path,
            name.as_posix(),
            (name.with_suffix('') if stems[name.with_suffix('')] == 1 else name).as_posix(),
            path.suffix.lower() in VIDEO_SUFFIXES,
        )
        for path, name in names.items()
    ]
