"""What a benchmark's results look like: as text, as JSON, as a picture; and what they were taken on."""

from __future__ import annotations

import os
import platform
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import matplotlib
import torch
from matplotlib.figure import Figure

import mmlocalmamba
from mmlocalmamba.ops import backend_for
from mmlocalmamba.ops.backends import cpu

from .benchmark import Comparison, Result, Setup

PACKAGES = ('torch', 'torchvision', 'timm', 'triton', 'mamba-ssm')


def environment(setup: Setup) -> dict[str, Any]:
    """Tell what measures are taken on: versions, processor, instruction set, threads, the scan's back end."""
    found: dict[str, Any] = {'mmlocalmamba': mmlocalmamba.__version__, 'python': platform.python_version()}
    found |= {name: _version(name) for name in PACKAGES}
    reason = cpu.why_not('cpu')
    found |= {
        'system': f'{platform.system()} {platform.machine()}',
        'cpu': _cpu_name(),
        'cores': os.cpu_count(),
        'threads': torch.get_num_threads(),
        'instruction sets of the C++ scan': cpu.extension().instruction_sets() if reason is None else reason,
        "torch's instruction set": torch.backends.cpu.get_cpu_capability(),
        'load before': round(os.getloadavg()[0], 2) if hasattr(os, 'getloadavg') else None,
    }
    if setup.device == 'cuda':
        found |= {'gpu': torch.cuda.get_device_name(), 'cuda': torch.version.cuda}
    return found | {"scan's back end": backend_for(setup.device)}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    information = Path('/proc/cpuinfo')
    lines = information.read_text(encoding='utf-8').splitlines() if information.exists() else []
    names = (line.split(':', 1)[1].strip() for line in lines if line.startswith('model name'))
    return next(names, platform.processor() or platform.machine())


def to_json(result: Result) -> dict[str, Any]:
    """Turn a result into what JSON can hold; a ratio that has a bound tells whether it is met."""
    comparisons = [{**asdict(row), 'met': met(row)} for row in result.comparisons]
    tables = [{'title': table.title, 'rows': [dict(row) for row in table.rows]} for table in result.tables]
    return {'title': result.title, 'comparisons': comparisons, 'tables': tables, 'notes': list(result.notes)}


def met(row: Comparison) -> bool | None:
    """Tell whether a ratio is within its bound; None if it has none."""
    return None if row.wanted is None else row.ratio <= row.wanted


def to_text(result: Result) -> str:
    """Lay a result out as text: ratios, other figures, notes."""
    blocks = [result.title]
    if result.comparisons:
        blocks.append(align([_comparison_row(row) for row in result.comparisons]))
    for table in result.tables:
        blocks.append(f'{table.title}\n{align(table.rows)}')
    notes = [textwrap.fill(note, 110) for note in result.notes]
    return '\n\n'.join(['\n'.join([blocks[0], '=' * len(blocks[0])]), *blocks[1:], *notes]) + '\n'


def _comparison_row(row: Comparison) -> dict[str, Any]:
    spread = '' if row.runs == 1 else ' to '.join(f'{ratio:.3f}' for ratio in row.quartiles)
    bound = '' if row.wanted is None else f'<= {row.wanted:g}: {"met" if met(row) else "NOT MET"}'
    return {
        'measured': row.name,
        'against': row.base,
        'ratio': f'{row.ratio:.3f}',
        'quartiles': spread,
        'wanted': bound,
        'aim': '' if row.aim is None else f'{row.aim:g}',
        'median': f'{number(row.value)} {row.unit}',
        "other's median": f'{number(row.base_value)} {row.unit}',
        'runs': row.runs,
    }


def align(rows: Sequence[Mapping[str, Any]]) -> str:
    """Lay rows with the same keys out in columns: words to the left, numbers to the right."""
    columns = []
    for key in rows[0]:
        cells = [number(row[key]) if isinstance(row[key], float) else row[key] for row in rows]
        words = all(isinstance(row[key], str) for row in rows) and key in ('measured', 'against', *list(rows[0])[:1])
        texts = [key, *('' if cell is None else str(cell) for cell in cells)]
        width = max(map(len, texts))
        columns.append([text.ljust(width) if words else text.rjust(width) for text in texts])
    lines = ['  '.join(line).rstrip() for line in zip(*columns, strict=True)]
    return '\n'.join([lines[0], '-' * max(map(len, lines)), *lines[1:]])


def number(value: float) -> str:
    """Write a number with three or four digits that count."""
    if value == 0:
        return '0'
    digits = next((digits for limit, digits in ((100, 0), (10, 1), (1, 2)) if abs(value) >= limit), 3)
    return f'{value:.{digits}f}'


def environment_text(found: Mapping[str, Any]) -> str:
    """Lay an environment out as text; what is not installed is left out."""
    shown = {key: ', '.join(value) if isinstance(value, list) else value for key, value in found.items()}
    width = max(map(len, shown))
    return '\n'.join(f'{key.ljust(width)}  {value}' for key, value in shown.items() if value is not None) + '\n'


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
