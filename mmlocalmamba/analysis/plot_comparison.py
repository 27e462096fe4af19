"""The picture that papers show of a comparison: a metric against cost, one mark per model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from .comparison import Row


def plot_comparison(rows: Sequence[Row], caption: str) -> Figure:
    """Draw a metric against FLOPs and against images per second.

    The metric is the first one that any model has. Marks grow with the parameters; those of published values are
    hollow, those of values measured here are filled.

    Args:
        rows: The models. Those without the metric are left out.
        caption: What speed was measured on.

    Returns:
        The figure; the caller saves it with ``savefig``.

    Raises:
        ValueError: If no model has a metric.
    """
    metric = next((name for row in rows for name in (*row.measured, *row.published)), None)
    if metric is None:
        raise ValueError('there is nothing to draw: no model has a published metric or one measured here')
    shown = [row for row in rows if metric in row.measured or metric in row.published]
    figure = Figure(figsize=(12, 4.8), layout='constrained')
    left, right = figure.subplots(1, 2, sharey=True)
    marks = _scatter(left, shown, metric, [row.flops / 1e9 for row in shown])
    _scatter(right, shown, metric, [row.images_per_second for row in shown])
    left.set(xlabel='FLOPs, G', ylabel=metric)
    right.set(xlabel='images per second (measured)')
    names = [f'{number} {row.name}' for number, row in enumerate(shown, 1)]
    figure.legend(marks, names, loc='outside right upper', frameon=False, fontsize=8, markerscale=0.6)
    figure.suptitle(f'{caption}\narea: parameters; hollow: published value, filled: measured here', fontsize=9)
    return figure


def _scatter(axes: Any, rows: Sequence[Row], metric: str, places: Sequence[float]) -> list[Any]:
    """Draw the marks of all models at their places along one axis, with their numbers in the legend; returns them."""
    most = max(row.params for row in rows)
    colors = matplotlib.colormaps['tab10']
    marks = []
    for i, (row, x) in enumerate(zip(rows, places, strict=True)):
        y = row.measured.get(metric, row.published.get(metric))
        face = colors(i % 10) if metric in row.measured else 'none'
        size = 60 + 240 * row.params / most
        shape = 'os^D'[i // 10 % 4]
        marks.append(
            axes.scatter(x, y, s=size, marker=shape, facecolors=face, edgecolors=[colors(i % 10)], linewidths=1.5)
        )
        axes.annotate(str(i + 1), (x, y), ha='center', va='center', fontsize=7)
    axes.margins(0.1)
    axes.grid(alpha=0.25)
    axes.spines[['top', 'right']].set_visible(False)
    return marks
