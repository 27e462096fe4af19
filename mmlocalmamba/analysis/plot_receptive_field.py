"""A picture of effective receptive fields: a row per model, a column per layer, on one logarithmic scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from .receptive_field import share_above

_LOWEST = 1e-4
_MARKED = 0.01
_INCHES = 2.1
_COLORS = 'magma'


def plot_receptive_fields(
    fields: Mapping[str, Sequence[np.ndarray]], layers: Sequence[str], caption: str = ''
) -> Figure:
    """Draw receptive fields.

    Under each stands the part of the image where the influence is at least 0.01 of its largest value.

    Args:
        fields: By the name of the model, one field (H, W) per layer, from
            :func:`mmlocalmamba.analysis.receptive_field.receptive_field`.
        layers: Names of the columns.
        caption: A line above the panels.

    Returns:
        The figure. The caller saves it with ``savefig``.

    Raises:
        ValueError: If there is no model or no layer.
    """
    if not fields or not layers:
        raise ValueError('there is nothing to draw: give at least one model and one layer')
    size = (_INCHES * len(layers) + 1.6, (_INCHES + 0.12) * len(fields) + (0.7 if caption else 0.4))
    figure = Figure(figsize=size, layout='constrained')
    panels = figure.subplots(len(fields), len(layers), squeeze=False)
    scale = LogNorm(_LOWEST, 1)
    for row, (name, maps) in zip(panels, fields.items(), strict=True):
        for axes, layer, field in zip(row, layers, maps, strict=True):
            axes.imshow(np.maximum(field, _LOWEST), norm=scale, cmap=_COLORS, interpolation='nearest')
            axes.set(xticks=[], yticks=[])
            axes.set_xlabel(f'{100 * share_above(field, _MARKED):.1f} % of pixels above {_MARKED}', fontsize=8)
            if axes in panels[0]:
                axes.set_title(f'layer {layer}', fontsize=9)
        row[0].set_ylabel(name, fontsize=8)
    figure.colorbar(
        ScalarMappable(scale, _COLORS),
        ax=panels.ravel().tolist(),
        label='influence, relative to the largest',
        shrink=0.8,
    )
    if caption:
        figure.suptitle(caption, fontsize=9)
    return figure
