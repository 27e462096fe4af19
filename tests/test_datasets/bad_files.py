"""Image files that are bad in one way each, and good ones that look odd."""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image


def _bytes(image, suffix):
    return cv2.imencode(suffix, image)[1].tobytes()


def noise(height, width, channels=3, dtype=np.uint8):
    rng = np.random.default_rng(0)
    shape = (height, width, channels) if channels > 1 else (height, width)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


JPEG, PNG = _bytes(noise(48, 64), '.jpg'), _bytes(noise(48, 64), '.png')


def _webp():
    buffer = io.BytesIO()
    Image.fromarray(noise(48, 64)).save(buffer, 'WEBP')
    return buffer.getvalue()


BAD = {
    'missing.jpg': None,
    'empty.jpg': b'',
    'text.jpg': b'<html>404 Not Found</html>\n',
    'bytes.png': bytes(range(128, 256)),
    'half.jpg': JPEG[: len(JPEG) // 2],
    'header.jpg': JPEG[:30],
    'half.png': PNG[: len(PNG) // 2],
    'half.webp': _webp()[:1000],
    'damaged.png': PNG[:60] + bytes(40) + PNG[100:],
}
PROBLEMS = {
    'missing.jpg': 'is not there',
    'empty.jpg': r'is empty \(0 bytes\)',
    'text.jpg': 'is text, not an image',
    'bytes.png': 'is no image: it starts with b',
    'half.jpg': 'is cut off or damaged: ',
    'header.jpg': 'is ',
    'half.png': 'is cut off or damaged: ',
    'half.webp': 'is ',
    'damaged.png': 'is cut off or damaged: ',
}
ODD = {
    'one_pixel.png': _bytes(noise(1, 1), '.png'),
    'one_row.jpg': _bytes(noise(1, 300), '.jpg'),
    'wide.jpg': _bytes(noise(50, 12000), '.jpg'),
    'gray.jpg': _bytes(noise(48, 64, 1), '.jpg'),
    'gray.png': _bytes(noise(48, 64, 1), '.png'),
    'rgba.png': _bytes(noise(48, 64, 4), '.png'),
    '16_bits.png': _bytes(noise(48, 64, 3, np.uint16), '.png'),
    '16_bits_gray.png': _bytes(noise(48, 64, 1, np.uint16), '.png'),
    '16_bits.tif': _bytes(noise(48, 64, 3, np.uint16), '.tif'),
    'trailer.jpg': JPEG + b'a camera appends this',
}


def write(folder: Path, files: dict) -> None:
    """Write files; None is one that is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        if data is not None:
            (folder / name).write_bytes(data)
