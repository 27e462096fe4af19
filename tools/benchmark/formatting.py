"""The results of measures as text and as JSON."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from typing import Any

from mmlocalmamba.analysis.text_table import align, number
from timing import Comparison, Result


def to_json(result: Result) -> dict[str, Any]:
    """Turn a result into plain dicts and lists for JSON; a ratio with a bound says whether it is met."""
    comparisons = [{**asdict(row), 'met': met(row)} for row in result.comparisons]
    tables = [{'title': table.title, 'rows': [dict(row) for row in table.rows]} for table in result.tables]
    return {'title': result.title, 'comparisons': comparisons, 'tables': tables, 'notes': list(result.notes)}


def met(row: Comparison) -> bool | None:
    """Return whether a ratio is within its bound; None if it has no bound."""
    return None if row.wanted is None else row.ratio <= row.wanted


def to_text(result: Result) -> str:
    """Format a result as text: ratios, other figures, notes."""
    sections = [result.title]
    if result.comparisons:
        sections.append(align([_comparison_row(row) for row in result.comparisons]))
    for table in result.tables:
        sections.append(f'{table.title}\n{align(table.rows)}')
    notes = [textwrap.fill(note, 110) for note in result.notes]
    return '\n\n'.join(['\n'.join([sections[0], '=' * len(sections[0])]), *sections[1:], *notes]) + '\n'


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
