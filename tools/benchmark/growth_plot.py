"""A picture of how the time of models grows with the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure


def plot_growth(points: Sequence[Mapping[str, Any]], caption: str) -> Figure:
    """Draw time against tokens on logarithmic axes, with a line that is linear in tokens.

    Args:
        points: Rows with ``model``, ``side``, ``tokens`` and ``ms``, a model's in ascending order; the linear line goes
            through the first model's second point.
        caption: What it was measured on.

    Returns:
        The figure; the caller saves it with ``savefig``.
    """
    figure = Figure(figsize=(7.2, 4.8), layout='constrained')
    axes = figure.subplots()
    models = list(dict.fromkeys(point['model'] for point in points))
    colors = matplotlib.colormaps['tab10']
    for i, model in enumerate(models):
        own = [point for point in points if point['model'] == model]
        x, y = ([point[key] for point in own] for key in ('tokens', 'ms'))
        axes.plot(x, y, 'o-' if i == 0 else 's--', color=colors(i), linewidth=2.2 if i == 0 else 1.3, label=model)
    first = [point for point in points if point['model'] == models[0]]
    base = first[min(1, len(first) - 1)]
    tokens = [point['tokens'] for point in first]
    linear = [base['ms'] * count / base['tokens'] for count in tokens]
    axes.plot(tokens, linear, ':', color='#555555', linewidth=1.2, label=f'linear, through {models[0]} {base["side"]}²')
    axes.set(xscale='log', yscale='log', ylabel='forward, ms')
    axes.set_xticks(tokens, [f'{point["tokens"]}\n{point["side"]}²' for point in first])
    axes.set_xticks([], minor=True)
    axes.set_xlabel('tokens of 16 x 16 pixels; side of the image in pixels')
    axes.set_title(caption, fontsize=9, loc='left')
    axes.grid(alpha=0.25)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(frameon=False)
    return figure
