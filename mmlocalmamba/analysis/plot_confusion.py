"""A picture of a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

_WRITTEN = 30
"""With more classes than that, numbers would be too small to read."""


def plot_confusion(matrix: np.ndarray, names: Sequence[str], caption: str) -> Figure:
    """Draw a confusion matrix, in percent of each row.

    Args:
        matrix: (n, n) counts: rows the truth, columns the prediction.
        names: Names of the n classes.
        caption: A line above the matrix.

    Returns:
        The figure. The caller saves it with ``savefig``.
    """
    totals = matrix.sum(1, keepdims=True)
    shares = 100 * matrix / np.maximum(totals, 1)
    count = len(names)
    written = count <= _WRITTEN
    longest = max(map(len, names))
    side = max((0.5 if written else 0.14) * count, 2.5)
    figure = Figure(figsize=(side + 0.09 * longest + 2.6, side + 0.07 * longest + 1.2), layout='constrained')
    axes = figure.subplots()
    image = axes.imshow(shares, cmap='Blues', vmin=0, vmax=100)
    if written:
        for (row, column), value in np.ndenumerate(shares):
            if matrix[row, column]:
                axes.text(
                    column,
                    row,
                    '<1' if value < 1 else f'{value:.0f}',
                    ha='center',
                    va='center',
                    fontsize=8,
                    color='white' if value > 55 else 'black',
                )
    size = 8 if written else 5
    axes.set_xticks(range(count), names, rotation=45, ha='right', rotation_mode='anchor', fontsize=size)
    rows = [f'{name} ({total:,})' for name, total in zip(names, totals[:, 0], strict=True)]
    axes.set_yticks(range(count), rows, fontsize=size)
    axes.set(xlabel='prediction', ylabel='truth (count)')
    figure.colorbar(image, ax=axes, label='% of the row', shrink=0.8)
    figure.suptitle(caption, fontsize=10)
    return figure
