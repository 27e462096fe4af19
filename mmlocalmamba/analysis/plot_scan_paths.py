"""Pictures of scan paths: the order in which a direction visits the tokens of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mmlocalmamba.directions import scan_order

_PANEL_INCHES = 3.2
_COLUMNS = 4


def plot_scan_paths(
    directions: Sequence[str], grid: tuple[int, int], image: np.ndarray | None = None, title: str = ''
) -> Figure:
    """Draw the paths of directions over an image: a panel per direction, a line from token to token.

    The line's colour runs from dark, where the scan starts, to bright, where it ends; a dot marks the start and a
    cross the end. Padding, which windows that jut out of the map pass over, is left out.

    Args:
        directions: Names of the directions.
        grid: Rows and columns of tokens.
        image: uint8 (height, width, 3), red, green, blue, of any size: it is stretched over the grid. Default: white.
        title: A line above the panels.

    Returns:
        The figure. The caller saves it with ``savefig``.

    Raises:
        ValueError: If there is no direction, a name is unknown, or the grid is empty.
    """
    if not directions:
        raise ValueError('there is nothing to draw: give at least one direction')
    rows, columns = grid
    across = min(len(directions), _COLUMNS)
    down = -(-len(directions) // across)
    aspect = min(max(rows / columns, 0.25), 4.0)
    size = (across * _PANEL_INCHES + 0.7, down * (_PANEL_INCHES * aspect + 0.35) + (0.35 if title else 0.0))
    figure = Figure(figsize=size, layout='constrained')
    panels = figure.subplots(down, across, squeeze=False).flatten()
    for axes, name in zip(panels, directions, strict=False):
        _draw_path(axes, name, rows, columns, image)
    for axes in panels[len(directions) :]:
        axes.set_visible(False)
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), _colormap()), ax=list(panels), shrink=0.8, ticks=[0, 1])
    bar.ax.set_yticklabels(['first', 'last'], fontsize=8)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def _draw_path(axes: Any, name: str, rows: int, columns: int, image: np.ndarray | None) -> None:
    order = scan_order(name, rows, columns).numpy()
    order = order[order >= 0]
    points = np.stack([order % columns, order // columns], axis=1).astype(float)
    if image is not None:
        extent = (-0.5, columns - 0.5, rows - 0.5, -0.5)
        axes.imshow(image, extent=extent, alpha=0.55, aspect='equal', interpolation='antialiased')
    width = min(max(60 / max(rows, columns), 0.7), 2.6)
    steps = list(np.stack([points[:-1], points[1:]], axis=1))
    axes.add_collection(LineCollection(steps, colors='white', linewidths=width + 1.2, capstyle='round', alpha=0.8))
    axes.add_collection(
        LineCollection(steps, array=np.linspace(0, 1, len(steps)), cmap=_colormap(), linewidths=width, capstyle='round')
    )
    marks = dict(color='black', markeredgecolor='white', markersize=7, zorder=3, clip_on=False)
    axes.plot(*points[0], 'o', **marks)
    axes.plot(*points[-1], 'X', **marks)
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5), xticks=[], yticks=[], aspect='equal')
    axes.set_title(name, fontsize=9)


def _colormap() -> Any:
    return matplotlib.colormaps['plasma']
