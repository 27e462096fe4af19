"""A picture of class activation maps: a row per picture, a column per output of the backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

_INCHES = 2.4
_COLORS = 'turbo'


class ActivationRow(NamedTuple):
    """What is drawn of one picture.

    Attributes:
        image: What the maps lie over, uint8 (height, width, 3).
        prediction: The picture with the model's result, uint8 (height, width, 3).
        name: Name of the class.
        maps: float (height, width) from 0 to 1, one per column.
    """

    image: np.ndarray
    prediction: np.ndarray
    name: str
    maps: Sequence[np.ndarray]


def plot_activation_maps(rows: Sequence[ActivationRow], columns: Sequence[str], caption: str = '') -> Figure:
    """Draw the maps over their pictures; in front stands what the model predicts.

    Args:
        rows: One per picture.
        columns: Names of the maps.
        caption: A line above the panels.

    Returns:
        The figure. The caller saves it with ``savefig``.

    Raises:
        ValueError: If there is nothing to draw.
    """
    if not rows or not columns:
        raise ValueError('there is nothing to draw: give at least one picture and one output of the backbone')
    heights = [_INCHES * max(_aspect(row.image), _aspect(row.prediction)) for row in rows]
    size = (_INCHES * (len(columns) + 1) + 1.9, sum(heights) + 0.08 * len(rows) + (0.5 if caption else 0.2))
    figure = Figure(figsize=size, layout='constrained')
    panels = figure.subplots(len(rows), len(columns) + 1, squeeze=False, gridspec_kw={'height_ratios': heights})
    for line, row in zip(panels, rows, strict=True):
        line[0].imshow(row.prediction)
        line[0].set_ylabel(row.name, fontsize=9)
        for axes, heat in zip(line[1:], row.maps, strict=True):
            axes.imshow(row.image)
            axes.imshow(heat, cmap=_COLORS, vmin=0, vmax=1, alpha=0.5)
        for axes in line:
            axes.set(xticks=[], yticks=[])
    for axes, title in zip(panels[0], ['prediction', *columns], strict=True):
        axes.set_title(title, fontsize=9)
    scale = ScalarMappable(Normalize(0, 1), _COLORS)
    figure.colorbar(scale, ax=panels.ravel().tolist(), label='relative activation', shrink=0.8)
    if caption:
        figure.suptitle(caption, fontsize=10)
    return figure


def _aspect(image: np.ndarray) -> float:
    return image.shape[0] / image.shape[1]
