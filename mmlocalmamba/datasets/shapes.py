"""The demo data: textured shapes that cover each other, generated, the same bytes for the same seed.

The images come twice: in COCO's layout with instance masks, and in ADE20K's layout with semantic masks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .textures import hsv_to_bgr, texture

CLASSES = ('disc', 'square', 'triangle', 'star', 'ring', 'cross')
"""Names of the instances' classes; COCO category ids are 1 to 6 in this order."""

SEMANTIC_CLASSES = ('background', *CLASSES)
"""Names of the semantic classes; pixel values are 1 to 7 in this order, and 0 is ignored, as in ADE20K."""

SPLITS = {'train': 'training', 'val': 'validation'}
"""COCO's names of the splits, and ADE20K's."""

MIN_SIDE, MAX_SIDE = 96, 192
MIN_VISIBLE = 40
"""Shapes of which fewer pixels can be seen are annotated nowhere: no instance, and ignored in the semantic mask."""


@dataclass
class Sample:
    """One image and what is in it.

    Attributes:
        image: uint8 (H, W, 3), BGR.
        masks: bool (number, H, W), the visible part of each shape; they never overlap.
        labels: Index into :data:`CLASSES` of each shape.
    """

    image: np.ndarray
    masks: np.ndarray
    labels: list[int]

    @property
    def annotated(self) -> list[int]:
        """Indices of the shapes of which enough can be seen."""
        return [i for i, mask in enumerate(self.masks) if mask.sum() >= MIN_VISIBLE]

    def semantic_mask(self) -> np.ndarray:
        """Give the uint8 (H, W) label map: 0 ignored, 1 background, 2 to 7 the classes."""
        labels = np.ones(self.image.shape[:2], np.uint8)
        annotated = self.annotated
        for i, mask in enumerate(self.masks):
            labels[mask] = self.labels[i] + 2 if i in annotated else 0
        return labels


def make_sample(rng: np.random.Generator) -> Sample:
    """Draw one image: a texture of dull colours, and on it 2 to 5 shapes, later ones over earlier ones.

    Each class has a hue that it prefers, and any texture, size and rotation.
    """
    height, width = (int(side) for side in rng.integers(MIN_SIDE, MAX_SIDE + 1, 2))
    image = texture(rng, (height, width), _dull_colour(rng), _dull_colour(rng))
    count = int(rng.integers(2, 6))
    masks = np.zeros((count, height, width), bool)
    labels = [int(label) for label in rng.integers(0, len(CLASSES), count)]
    for i, label in enumerate(labels):
        radius = rng.uniform(0.14, 0.32) * min(height, width)
        centre = rng.uniform(0.6 * radius, width - 0.6 * radius), rng.uniform(0.6 * radius, height - 0.6 * radius)
        mask = draw_shape(CLASSES[label], (height, width), centre, radius, rng.uniform(0, 2 * np.pi))
        hue = label / len(CLASSES) + rng.normal(0, 0.04)
        light = hsv_to_bgr(hue, rng.uniform(0.6, 1), rng.uniform(0.75, 1))
        dark = hsv_to_bgr(hue, rng.uniform(0.6, 1), rng.uniform(0.35, 0.7))
        image[mask] = texture(rng, (height, width), light, dark)[mask]
        masks[:i] &= ~mask
        masks[i] = mask
    image = image + rng.normal(0, 6, image.shape)
    return Sample(image.clip(0, 255).round().astype(np.uint8), masks, labels)


def _dull_colour(rng: np.random.Generator) -> np.ndarray:
    return hsv_to_bgr(rng.uniform(0, 1), rng.uniform(0, 0.25), rng.uniform(0.2, 0.9))


def draw_shape(
    name: str, size: tuple[int, int], centre: tuple[float, float], radius: float, angle: float
) -> np.ndarray:
    """Give the mask of a shape.

    Args:
        name: One of :data:`CLASSES`.
        size: (H, W) of the image in pixels.
        centre: (x, y) in pixels.
        radius: Distance from the centre to the farthest points, in pixels.
        angle: Rotation in radians.

    Returns:
        bool (H, W).

    Raises:
        ValueError: If there is no such shape.
    """
    rows, columns = np.mgrid[: size[0], : size[1]]
    dx, dy = (columns - centre[0]) / radius, (rows - centre[1]) / radius
    x, y = np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx
    distance = np.hypot(x, y)
    if name == 'disc':
        return distance <= 1
    if name == 'ring':
        return (distance <= 1) & (distance >= 0.5)
    if name == 'square':
        return np.maximum(abs(x), abs(y)) <= 0.5**0.5
    if name == 'cross':
        return (np.minimum(abs(x), abs(y)) <= 0.28) & (np.maximum(abs(x), abs(y)) <= 0.96)
    if name == 'triangle':
        return _within_spikes(x, y, points=3, inner=0.5)
    if name == 'star':
        return _within_spikes(x, y, points=5, inner=0.42)
    raise ValueError(f'there is no shape {name!r}: choose one of {CLASSES}')


def _within_spikes(x: np.ndarray, y: np.ndarray, points: int, inner: float) -> np.ndarray:
    """Tell which points are inside a star whose outer corners are at distance 1 and inner ones at ``inner``."""
    half = np.pi / points
    folded = abs((np.arctan2(y, x) + half) % (2 * half) - half)  # angle to the nearest outer corner
    distance = np.hypot(x, y)
    u, v = distance * np.cos(folded), distance * np.sin(folded)
    corner = inner * np.cos(half), inner * np.sin(half)
    return (1 - u) * corner[1] - v * (1 - corner[0]) >= 0


def encode_rle(mask: np.ndarray) -> dict[str, Any]:
    """Encode a bool (H, W) mask as COCO's uncompressed run-length encoding, which keeps holes."""
    pixels = np.concatenate([[False], mask.flatten(order='F'), [False]])
    changes = np.flatnonzero(pixels[1:] != pixels[:-1])
    counts = np.diff(np.concatenate([[0], changes, [mask.size]]))
    if len(counts) > 1 and counts[-1] == 0:
        counts = counts[:-1]
    return {'size': list(mask.shape), 'counts': counts.tolist()}


def coco_annotation(mask: np.ndarray, label: int, image_id: int, annotation_id: int) -> dict[str, Any]:
    """Describe one instance as COCO does; the box is that of its visible part."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]]
    return {
        'id': annotation_id,
        'image_id': image_id,
        'category_id': label + 1,
        'bbox': [int(value) for value in box],
        'area': int(mask.sum()),
        'iscrowd': 0,
        'segmentation': encode_rle(mask),
    }


def write_shapes(root: Path, counts: Mapping[str, int], seed: int = 0, bands: int = 0) -> None:
    """Generate the data set, in place of any that is there.

    It is written as ``annotations/instances_{train,val}.json``, ``train/`` and ``val/``, and under ``ade-like/`` as
    ``images/{training,validation}`` and ``annotations/{training,validation}``.

    Args:
        root: Folder to write into.
        counts: Number of images of 'train' and of 'val'.
        seed: Same seed, same bytes. An image does not depend on how many others there are.
        bands: If positive, images are TIFF files of that many pages, in 16 bits: see :func:`spectral_bands`.

    Raises:
        ValueError: If a split is unknown or has no image, or ``bands`` is negative.
    """
    if bands < 0:
        raise ValueError(f'bands={bands} must not be negative')
    for split, count in counts.items():
        if split not in SPLITS or count < 1:
            raise ValueError(f'{count} images of {split!r}: want 1 or more of each of {sorted(SPLITS)}')
        _write_split(root, split, count, seed, bands)


def _write_split(root: Path, split: str, count: int, seed: int, bands: int) -> None:
    ade = root / 'ade-like'
    images, masks, plain = ade / 'images' / SPLITS[split], ade / 'annotations' / SPLITS[split], root / split
    for folder in (images, masks, plain, root / 'annotations'):
        folder.mkdir(parents=True, exist_ok=True)
    for folder in (images, masks, plain):
        for old in folder.glob('[0-9]*.*'):
            old.unlink()
    content: dict[str, list[Any]] = {
        'images': [],
        'annotations': [],
        'categories': [{'id': i + 1, 'name': name, 'supercategory': 'shape'} for i, name in enumerate(CLASSES)],
    }
    for index in range(count):
        sample = make_sample(np.random.default_rng([seed, list(SPLITS).index(split), index]))
        name = f'{index:06d}'
        suffix = '.tif' if bands else '.jpg'
        image = spectral_bands(sample.image, bands) if bands else sample.image
        _write_image(plain / f'{name}{suffix}', image)
        _write_image(images / f'{name}{suffix}', image)
        _write_image(masks / f'{name}.png', sample.semantic_mask())
        height, width = sample.image.shape[:2]
        content['images'].append({'id': index, 'file_name': f'{name}{suffix}', 'height': height, 'width': width})
        for i in sample.annotated:
            number = len(content['annotations']) + 1
            content['annotations'].append(coco_annotation(sample.masks[i], sample.labels[i], index, number))
    (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps(content), encoding='utf-8')


def spectral_bands(image: np.ndarray, bands: int) -> np.ndarray:
    """Make up what a sensor of many bands would see: bell curves from blue to red, as reflectances x 10000.

    Args:
        image: uint8 (H, W, 3), BGR.
        bands: Number of bands.

    Returns:
        uint16 (H, W, bands), 0 to 10000.
    """
    centres, colours = np.linspace(0, 2, bands)[:, None], np.arange(3)
    weights = np.exp(-((centres - colours) ** 2) / 0.5)
    weights /= weights.sum(1, keepdims=True)
    return np.round(image @ weights.T * (10000 / 255)).astype(np.uint16)


def _write_image(path: Path, image: np.ndarray) -> None:
    if path.suffix == '.tif':
        written = cv2.imwritemulti(str(path), list(np.ascontiguousarray(image.transpose(2, 0, 1))))
        if not written:
            raise OSError(f'{path} could not be written')
        return
    if not cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 95] if path.suffix == '.jpg' else []):
        raise OSError(f'{path} could not be written')
