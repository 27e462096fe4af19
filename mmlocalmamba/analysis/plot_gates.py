"""A picture of SCAttn's gates: how much every block keeps of each of its directions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from mmlocalmamba.directions import canonical_order

from .gates import GateRecord


def mean_gates(records: Mapping[str, GateRecord]) -> tuple[tuple[str, ...], np.ndarray]:
    """Average the gates over images and channels.

    Args:
        records: From :func:`mmlocalmamba.analysis.record_gates`.

    Returns:
        The names of all directions; and a table (blocks, directions), NaN where a block lacks the direction.
    """
    names = canonical_order({name for record in records.values() for name in record.directions})
    table = np.full((len(records), len(names)), np.nan)
    for row, record in zip(table, records.values(), strict=True):
        means = record.gates.float().nanmean((0, 2)).tolist()
        for name, mean in zip(record.directions, means, strict=True):
            row[names.index(name)] = mean
    return tuple(names), table


def plot_gates(records: Mapping[str, GateRecord], title: str) -> Figure:
    """Draw the mean gates as a heat map: a row per block, a column per direction.

    Args:
        records: From :func:`mmlocalmamba.analysis.record_gates`.
        title: A line above the map.

    Returns:
        The figure. The caller saves it with ``savefig``.
    """
    names, table = mean_gates(records)
    figure = Figure(figsize=(0.7 * len(names) + 2.2, 0.3 * len(table) + 1.5), layout='constrained')
    axes = figure.subplots()
    lowest, highest = float(np.nanmin(table)), float(np.nanmax(table))
    image = axes.imshow(table, aspect='auto', cmap='viridis', vmin=lowest, vmax=max(highest, lowest + 1e-3))
    for (row, column), value in np.ndenumerate(table):
        if not np.isnan(value):
            dark = value < (lowest + highest) / 2
            axes.text(
                column, row, f'{value:.3f}', ha='center', va='center', fontsize=7, color='white' if dark else 'black'
            )
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.set_yticks(range(len(table)), [str(row) for row in range(len(table))], fontsize=8)
    axes.set(ylabel='block', xlabel='direction (blank: the block does not have it)')
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label='mean gate')
    figure.suptitle(title, fontsize=10)
    return figure
