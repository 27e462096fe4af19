"""Pictures of the direction search: what was chosen per block (paper figure 4), and alpha over training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mmlocalmamba.directions import canonical_order, parse_direction

_LEGEND_INCHES = 1.05  # width of the longest entry, such as w13_flip
_COLORS = {'h': '#e8a13a', 'v': '#5b8fd6'}


def direction_colors(names: Sequence[str]) -> dict[str, str]:
    """Return each direction a colour: orange for h, blue for v, greens for windows; a flip is lighter."""
    windows = sorted({parse_direction(name).window for name in names if name.startswith('w')})
    greens = matplotlib.colormaps['summer_r' if len(windows) > 2 else 'Greens']
    colors = {}
    for name in names:
        direction = parse_direction(name)
        if direction.path == 'w':
            place = windows.index(direction.window) / max(len(windows) - 1, 1)
            base = greens(0.55 + 0.3 * place) if len(windows) <= 2 else greens(place)
        else:
            base = matplotlib.colors.to_rgba(_COLORS[direction.path])
        red, green, blue = (1 - (1 - c) * (0.5 if direction.flip else 1) for c in base[:3])
        colors[name] = matplotlib.colors.to_hex((red, green, blue))
    return colors


def plot_directions(
    models: Mapping[str, Sequence[Sequence[str]]],
    probabilities: Mapping[str, Sequence[Mapping[str, float]]] | None = None,
) -> Figure:
    """Draw the directions of each block of one or more models as coloured cells, in the manner of figure 4.

    Args:
        models: Directions per block, by the name of the model.
        probabilities: The probability of each direction in each block, by the name of the model, which is written into
            the cells. Default: the cells hold names alone.

    Returns:
        The figure: a panel per model, with a column of cells per block. The caller saves it with ``savefig``.

    Raises:
        ValueError: If there is no model.
    """
    if not models:
        raise ValueError('there is nothing to draw: give at least one model')
    names = canonical_order({name for blocks in models.values() for block in blocks for name in block})
    colors = direction_colors(names)
    longest = max(len(blocks) for blocks in models.values())
    tallest = max(len(block) for blocks in models.values() for block in blocks)
    figure = Figure(figsize=(1.6 + 0.55 * longest, len(models) * (0.9 + 0.36 * tallest) + 0.6), layout='constrained')
    for axes, (title, blocks) in zip(figure.subplots(len(models), 1, squeeze=False)[:, 0], models.items(), strict=True):
        _draw_blocks(axes, blocks, colors, (probabilities or {}).get(title))
        axes.set_xlim(-0.6, longest - 0.4)  # cells of one size in all panels
        axes.set_title(title, loc='left', fontsize=10)
    handles = [Patch(facecolor=colors[name], edgecolor='#555555', label=name) for name in names]
    _add_legend(figure, handles)
    return figure


def _draw_blocks(
    axes: Any, blocks: Sequence[Sequence[str]], colors: Mapping[str, str], values: Sequence[Mapping[str, float]] | None
) -> None:
    for x, block in enumerate(blocks):
        for y, name in enumerate(canonical_order(block)):
            axes.bar(x, 0.92, bottom=y, width=0.92, color=colors[name], edgecolor='#555555', linewidth=0.5)
            short = name.replace('_flip', "'")
            text = short if values is None else f'{short}\n{values[x][name]:.2f}'
            dark = sum(matplotlib.colors.to_rgb(colors[name])) < 1.2
            size = 7 if values is None else 6
            axes.text(x, y + 0.46, text, ha='center', va='center', fontsize=size, color='white' if dark else 'black')
    axes.set(ylim=(max(map(len, blocks)), 0), xlabel="block (' marks a flipped direction)")
    axes.set_xticks(range(len(blocks)))
    axes.set_yticks([])
    axes.spines[['top', 'right', 'left']].set_visible(False)


def plot_history(records: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the probabilities of each block's candidates over training.

    Args:
        records: From :func:`mmlocalmamba.search.hook.read_log`.

    Returns:
        The figure: a panel per block. The caller saves it with ``savefig``.

    Raises:
        ValueError: If there is no record.
    """
    if not records:
        raise ValueError('the log holds no records yet: let the search run for an interval')
    blocks = records[-1]['probabilities']
    names = canonical_order({name for block in blocks for name in block})
    colors = direction_colors(names)
    columns = min(len(blocks), 5)
    rows = -(-len(blocks) // columns)
    figure = Figure(figsize=(2.6 * columns + 0.4, 1.9 * rows + 0.8), layout='constrained')
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    iterations = [record['iter'] for record in records]
    for index, axes in enumerate(panels):
        if index >= len(blocks):
            axes.set_visible(False)
            continue
        for name in canonical_order(blocks[index]):
            values = [record['probabilities'][index][name] for record in records]
            axes.plot(iterations, values, _line_style(name), color=colors[name], linewidth=1.6, label=name)
        axes.set_title(f'block {index}', fontsize=9)
        axes.tick_params(labelsize=7)
        axes.spines[['top', 'right']].set_visible(False)
    for axes in panels[max(len(blocks) - columns, 0) : len(blocks)]:  # the lowest of each column
        axes.set_xlabel('iteration', fontsize=8)
        axes.tick_params(labelbottom=True)
    figure.supylabel('softmax(alpha)', fontsize=9)
    handles = [Line2D([], [], linestyle=_line_style(name), color=colors[name], label=name) for name in names]
    _add_legend(figure, handles)
    return figure


def _add_legend(figure: Figure, handles: list[Any]) -> None:
    columns = max(int(figure.get_figwidth() / _LEGEND_INCHES), 1)
    figure.legend(
        handles=handles, loc='outside lower center', ncols=min(len(handles), columns), frameon=False, fontsize=8
    )


def _line_style(name: str) -> Literal['-', '--']:
    return '--' if name.endswith('_flip') else '-'
