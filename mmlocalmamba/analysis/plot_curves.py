"""A picture of training curves: a panel per value, a line per run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .training_logs import Curve

_COLUMNS = 4
_MARKED = 12
"""Curves with fewer points than that are drawn with a mark at each."""


def plot_curves(runs: Mapping[str, Mapping[str, Curve]], names: Sequence[str]) -> Figure:
    """Draw curves over iterations.

    Args:
        runs: By the name of the run, its curves by name, from
            :func:`mmlocalmamba.analysis.training_logs.read_curves`.
        names: The panels, in their order. A run without a value leaves its panel to the others.

    Returns:
        The figure. The caller saves it with ``savefig``.

    Raises:
        ValueError: If there is no panel, or no run has a value.
    """
    missing = [name for name in names if not any(name in curves for curves in runs.values())]
    if missing or not names:
        there = sorted({name for curves in runs.values() for name in curves})
        raise ValueError(f'no run has logged {", ".join(missing) or "anything to draw"}; there are {", ".join(there)}')
    across = min(len(names), _COLUMNS)
    down = -(-len(names) // across)
    several = len(runs) > 1
    figure = Figure(figsize=(3.0 * across + 0.3, 2.1 * down + (0.2 + 0.25 * len(runs) if several else 0.2)))
    figure.set_layout_engine('constrained')
    panels = figure.subplots(down, across, squeeze=False).flatten()
    colors = {run: matplotlib.colormaps['tab10'](index % 10) for index, run in enumerate(runs)}
    for axes, name in zip(panels, names, strict=False):
        for run, curves in runs.items():
            if name in curves:
                iterations, values = curves[name]
                marker = 'o' if len(values) < _MARKED else ''
                axes.plot(iterations, values, marker=marker, markersize=3, linewidth=1.4, color=colors[run])
        axes.set_title(name, fontsize=9)
        axes.set_xlabel('iteration', fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.25)
        axes.spines[['top', 'right']].set_visible(False)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    if several:
        handles = [Line2D([], [], color=color, label=run) for run, color in colors.items()]
        figure.legend(handles=handles, loc='outside lower left', frameon=False, fontsize=8)
    return figure
