"""Textures of two colours, for the demo data."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np


def hsv_to_bgr(hue: float, saturation: float, value: float) -> np.ndarray:
    """Convert a colour to float64 (3,) BGR in [0, 255]; hue, saturation and value in [0, 1], the hue wraps around."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return 255 * np.array([blue, green, red])


def texture(rng: np.random.Generator, size: tuple[int, int], first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Mix two colours by stripes, checks, dots, clouds or a gradient, of random scale and rotation.

    Args:
        rng: Source of the randomness.
        size: (H, W) in pixels.
        first: Colour, (3,) in [0, 255].
        second: The other colour.

    Returns:
        float64 (H, W, 3).
    """
    rows, columns = np.mgrid[: size[0], : size[1]]
    angle, period = rng.uniform(0, 2 * np.pi), rng.uniform(6, 16)
    x = np.cos(angle) * columns + np.sin(angle) * rows
    y = np.cos(angle) * rows - np.sin(angle) * columns
    waves = np.sin(2 * np.pi * x / period), np.sin(2 * np.pi * y / period)
    kind = rng.choice(['stripes', 'checks', 'dots', 'clouds', 'gradient'])
    if kind == 'stripes':
        weight = (waves[0] > 0).astype(float)
    elif kind == 'checks':
        weight = (waves[0] * waves[1] > 0).astype(float)
    elif kind == 'dots':
        weight = (waves[0] + waves[1] > 0.9).astype(float)
    elif kind == 'clouds':
        coarse = rng.uniform(0, 1, (size[0] // 12 + 2, size[1] // 12 + 2))
        weight = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)
    else:
        weight = (x - x.min()) / (x.max() - x.min())
    return weight[..., None] * first + (1 - weight[..., None]) * second
