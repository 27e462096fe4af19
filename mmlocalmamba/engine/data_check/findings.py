"""What a check has to say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

Severity = Literal['missing', 'problem', 'note']


class Finding(NamedTuple):
    """One thing that a check has found.

    Attributes:
        text: A sentence or two: what there is, what is wanted, which keys to change. Further lines are indented.
        severity: ``'missing'``: a file or folder is not there. ``'problem'``: the run would fail or learn nonsense.
            ``'note'``: it can run, but the user should know.
    """

    text: str
    severity: Severity = 'problem'


def listed(items: Iterable[object], shown: int = 6) -> str:
    """Join the first few of some items with commas, and end with '...' if there are more."""
    texts = [str(item) for item in items]
    return ', '.join(texts[:shown]) + (', ...' if len(texts) > shown else '')


def plural(count: int, noun: str) -> str:
    """Write a count with its noun, such as '1 class' or '6 classes'."""
    if count == 1:
        return f'1 {noun}'
    if noun.endswith('y'):
        return f'{count:,} {noun[:-1]}ies'
    return f'{count:,} {noun}{"es" if noun.endswith(("s", "x")) else "s"}'
