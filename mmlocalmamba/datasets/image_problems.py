"""What is wrong with an image file, in a few words."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

_JPEG, _PNG, _WEBP = b'\xff\xd8', b'\x89PNG\r\n\x1a\n', b'RIFF'
_NPY = b'\x93NUMPY'
_TIFF = (b'II*\0', b'MM\0*')
_BITS_PER_SAMPLE = 258
_JPEG_SCAN, _JPEG_END, _PNG_END = b'\xff\xda', b'\xff\xd9', b'IEND'


def is_local(path: str | Path) -> bool:
    """Tell whether a path is in the file system, rather than the address of a store."""
    return '://' not in str(path)


def absence_problem(path: str | Path) -> str | None:
    """Say what is wrong with a file that can be told without reading it; None if nothing.

    Example:
        >>> absence_problem('nowhere/1.jpg')
        'is not there'
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return 'is a broken link' if os.path.islink(path) else 'is not there'
    except OSError as error:
        return f'cannot be opened: {error.strerror}'
    if os.path.isdir(path):
        return 'is a folder'
    return 'is empty (0 bytes)' if status.st_size == 0 else None


def image_problem(path: str | Path) -> str | None:
    """Say what is wrong with an image file, by decoding all of it; None if nothing is found.

    Args:
        path: A local file.

    Returns:
        What follows the file's name in a message, such as ``'is empty (0 bytes)'``.
    """
    problem = absence_problem(path)
    if problem is not None:
        return problem
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        return f'cannot be read: {error.strerror}'
    return decoding_problem(data)


def decoding_problem(data: bytes) -> str | None:
    """Say what is wrong with the bytes of an image file, by decoding them; None if nothing is found."""
    if data.startswith(_NPY):
        return _npy_problem(data)
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except Image.UnidentifiedImageError:
        if _decodes_with_opencv(data):
            return None
        if data.startswith(_TIFF):
            return None  # Pillow and OpenCV do not know all kinds, such as those of many bands
        return 'is text, not an image' if _is_text(data[:256]) else f'is no image: it starts with {data[:8]!r}'
    except Image.DecompressionBombError as error:
        return f'is too large: {error}'
    except Exception as error:  # Pillow's decoders raise all kinds, SyntaxError among them
        return f'is cut off or damaged: {error}'
    return None


def may_be_cut_off(data: bytes) -> bool:
    """Tell, fast, whether the end of a JPEG, PNG or WebP file is missing.

    OpenCV decodes such files without an error; what is missing is gray. A file that lacks nothing but its end marker is
    whole: ask :func:`decoding_problem` about those that this function suspects.
    """
    if data.startswith(_JPEG):
        return data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN)  # neither occurs inside of compressed data
    if data.startswith(_PNG):
        return _PNG_END not in data[-64:]
    if data.startswith(_WEBP):
        return int.from_bytes(data[4:8], 'little') + 8 > len(data)
    return False


def bits_per_channel(data: bytes) -> int:
    """Give the bits of each channel of a PNG or TIFF file by its header; 8 for all others."""
    if data.startswith(_PNG) and len(data) > 24:
        return data[24]
    if data.startswith(_TIFF):
        return _tiff_bits(data)
    return 8


def _tiff_bits(data: bytes) -> int:
    """Read the field BitsPerSample of the first page of a TIFF file (TIFF 6.0, section 2)."""
    order = '<' if data.startswith(b'II') else '>'
    try:
        (start,) = struct.unpack_from(f'{order}I', data, 4)
        (count,) = struct.unpack_from(f'{order}H', data, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, _, values = struct.unpack_from(f'{order}HHI', data, entry)
            if tag == _BITS_PER_SAMPLE:  # up to two 16-bit values stand in the entry itself, more elsewhere
                place = entry + 8 if values <= 2 else struct.unpack_from(f'{order}I', data, entry + 8)[0]
                return int(struct.unpack_from(f'{order}H', data, place)[0])
    except struct.error:  # the file is cut off
        pass
    return 8


def _npy_problem(data: bytes) -> str | None:
    try:
        np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError) as error:
        return f'is cut off or damaged: {error}'
    return None


def _decodes_with_opencv(data: bytes) -> bool:
    """Tell whether OpenCV knows a format that Pillow does not, such as TIFF of three channels with 16 bits."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) is not None
    except cv2.error:
        return False


def _is_text(start: bytes) -> bool:
    try:
        return start.decode('ascii').isprintable() or b'\n' in start
    except UnicodeDecodeError:
        return False
