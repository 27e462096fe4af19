"""Images of any number of channels and of 16 bits: reading them from .npy, .tif and all that OpenCV knows."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from mmengine import fileio
from PIL import Image

from mmlocalmamba.registry import TRANSFORMS

_NPY, _TIFF = b'\x93NUMPY', (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
_KEPT = (np.uint8, np.uint16, np.int16, np.float32)
"""Types that OpenCV resizes and torch knows."""


@TRANSFORMS.register_module()
class LoadMultispectralImage:
    """Load an image of any number of channels, in the file's order, with its type of numbers.

    Reads ``.npy`` (H, W, C), (C, H, W) or (H, W); TIFF of several pages or several bands, and whatever else OpenCV
    reads, such as PNG of 16 bits. TIFF of more than four bands in one page needs the package tifffile.

    Args:
        channels: Channels C that every image must have. It also tells (H, W, C) from (C, H, W).
        backend_args: mmengine's, for files that are not local.

    Raises:
        ValueError: When called, if a file has other channels, or numbers that are neither uint8, uint16, int16 nor
            real. The message names the file.
        ImportError: When called, if a file needs tifffile.
    """

    loads_images = True

    def __init__(self, channels: int, backend_args: dict[str, Any] | None = None) -> None:
        if channels < 1:
            raise ValueError(f'channels={channels} must be positive')
        self.channels, self.backend_args = channels, backend_args

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add ``img`` (H, W, C), ``img_shape`` and ``ori_shape`` to what has ``img_path``."""
        path = results['img_path']
        image = channels_last(decode(fileio.get(path, backend_args=self.backend_args), path), self.channels, path)
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def __repr__(self) -> str:
        """Show the settings."""
        return f'LoadMultispectralImage(channels={self.channels}, backend_args={self.backend_args})'


def decode(data: bytes, source: str | Path) -> np.ndarray:
    """Decode the bytes of an image file, in the file's order of channels and with its type of numbers.

    Args:
        data: Content of a .npy, TIFF or other image file.
        source: Where it is from, for messages.

    Returns:
        (H, W), (H, W, C) or (C, H, W).

    Raises:
        ValueError: If it is no image.
        ImportError: If it is a TIFF file that needs tifffile, which is not installed.
    """
    if data.startswith(_NPY):
        return np.load(io.BytesIO(data), allow_pickle=False)
    if data.startswith(_TIFF):
        return _decode_tiff(data, source)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if image is None:
        raise ValueError(f'{source} is no image that can be read')
    return _as_in_file(image)


def _decode_tiff(data: bytes, source: str | Path) -> np.ndarray:
    try:
        found, pages = cv2.imdecodemulti(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        found, pages = False, ()
    if found and len(pages) == 1:
        if pages[0].shape[2:] == (4,) and pages[0].dtype == np.uint8:  # OpenCV multiplies these by the fourth channel
            with Image.open(io.BytesIO(data)) as image:
                return np.asarray(image)
        return _as_in_file(pages[0])
    if found and all(page.ndim == 2 and page.shape == pages[0].shape for page in pages):
        return np.stack(pages, -1)
    try:
        import tifffile
    except ImportError as error:
        raise ImportError(
            f'{source} is a TIFF file that OpenCV does not read, such as one of more than 4 bands in one page: '
            'pip install tifffile imagecodecs'
        ) from error
    return tifffile.imread(io.BytesIO(data))


def _as_in_file(image: np.ndarray) -> np.ndarray:
    """Undo OpenCV's order of colours."""
    if image.ndim == 3 and image.shape[2] in (3, 4):
        return image[..., [2, 1, 0, 3][: image.shape[2]]]
    return image


def channels_last(image: np.ndarray, channels: int, source: str | Path) -> np.ndarray:
    """Bring an image into the shape (H, W, channels), of a type of numbers that can be resized.

    Raises:
        ValueError: If it has other channels or other numbers. The message names the source.
    """
    shape = image.shape
    if image.ndim == 2:
        image = image[..., None]
    elif image.ndim == 3 and shape[2] != channels and shape[0] == channels:
        image = image.transpose(1, 2, 0)
    if image.ndim != 3 or image.shape[2] != channels:
        raise ValueError(
            f'{source} has the shape {shape}, but channels={channels} wants ({channels}, height, width) or '
            f'(height, width, {channels})'
        )
    if image.dtype in (np.float16, np.float64):
        image = image.astype(np.float32)
    if image.dtype.newbyteorder('=') not in _KEPT:
        raise ValueError(f'{source} has numbers of type {image.dtype}: save them as uint8, uint16, int16 or float32')
    return np.ascontiguousarray(image, image.dtype.newbyteorder('='))


class ChannelStatistics(NamedTuple):
    """Mean and standard deviation of each channel, as :class:`MultispectralDataPreprocessor` wants them."""

    mean: list[float]
    std: list[float]


def channel_statistics(paths: Iterable[str | Path], channels: int, scale: float = 1.0) -> ChannelStatistics:
    """Measure the mean and standard deviation of each channel over all pixels of images.

    Args:
        paths: The training images.
        channels: Channels of each.
        scale: What pixels are divided by first.

    Raises:
        ValueError: If there is no image, or one has other channels.
    """
    count, total, squares = 0, np.zeros(channels), np.zeros(channels)
    for path in paths:
        pixels = channels_last(decode(Path(path).read_bytes(), path), channels, path).reshape(-1, channels) / scale
        count += len(pixels)
        total += pixels.sum(0)
        squares += (pixels**2).sum(0)
    if count == 0:
        raise ValueError('there are no images to measure')
    mean = total / count
    return ChannelStatistics(mean.tolist(), np.sqrt(np.maximum(squares / count - mean**2, 0)).tolist())
