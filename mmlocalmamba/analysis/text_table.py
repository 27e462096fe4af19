"""Figures as a table of plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def align(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format rows with the same keys as a table: words are left-aligned, numbers right-aligned."""
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
    """Format a number with three or four significant digits."""
    if value == 0:
        return '0'
    digits = next((digits for limit, digits in ((100, 0), (10, 1), (1, 2)) if abs(value) >= limit), 3)
    return f'{value:.{digits}f}'
