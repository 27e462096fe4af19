"""Names of scan directions (paper sections 4.1 and 4.2)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

CANDIDATES: tuple[str, ...] = ('h', 'h_flip', 'v', 'v_flip', 'w2', 'w2_flip', 'w7', 'w7_flip')
"""The eight candidates that the paper searches over (section 4.2), in canonical order."""

CROSS_SCAN: tuple[str, ...] = ('h', 'v', 'h_flip', 'v_flip')
"""The four directions of VMamba, in the order of its published weights."""

_PATTERN = re.compile(r'(?P<path>h|v|w(?P<window>[1-9]\d*))(?P<flip>_flip)?')


@dataclass(frozen=True)
class Direction:
    """One way of walking over a feature map.

    Attributes:
        path: ``'h'`` (row by row), ``'v'`` (column by column) or ``'w'`` (window by window).
        window: Side of the square window in tokens; 1 for ``'h'`` and ``'v'``.
        flip: Whether the whole sequence, padding included, is walked from its end.
    """

    path: str
    window: int = 1
    flip: bool = False

    def __str__(self) -> str:
        window = str(self.window) if self.path == 'w' else ''
        return f'{self.path}{window}{"_flip" if self.flip else ""}'


def parse_direction(name: str) -> Direction:
    """Read a direction's name.

    Args:
        name: ``'h'``, ``'v'`` or ``'wK'`` with K >= 1, each optionally followed by ``'_flip'``.

    Returns:
        The parsed direction; ``str()`` of it gives the name back.

    Raises:
        ValueError: If the name is not of that form.

    Example:
        >>> parse_direction('w7_flip')
        Direction(path='w', window=7, flip=True)
    """
    match = _PATTERN.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise ValueError(
            f"unknown scan direction {name!r}: use 'h', 'v' or 'wK' (K x K windows, such as 'w2' or 'w7'), "
            "each optionally followed by '_flip'"
        )
    return Direction(match['path'][0], int(match['window'] or 1), match['flip'] is not None)


def parse_directions(blocks: Sequence[Sequence[str]], depth: int) -> tuple[tuple[str, ...], ...]:
    """Check the directions of a whole network: one list of names per block.

    Args:
        blocks: For each block, the names of its directions. Blocks may differ in their number.
        depth: Number of blocks that the network has.

    Returns:
        The same names as tuples.

    Raises:
        ValueError: If there is not one list per block, a list is empty or repeats a name, or a name is unknown.
    """
    if isinstance(blocks, str) or any(isinstance(block, str) for block in blocks):
        raise ValueError(f"directions must be one list of names per block, such as [['h', 'w7'], ...]; got {blocks!r}")
    if len(blocks) != depth:
        raise ValueError(
            f'got directions for {len(blocks)} blocks, but the network has {depth}: give one list per block'
        )
    for index, block in enumerate(blocks):
        names = [str(parse_direction(name)) for name in block]
        if not names:
            raise ValueError(f'block {index} has no scan direction: give it at least one')
        if len(set(names)) != len(names):
            raise ValueError(f'block {index} repeats a scan direction in {list(block)}: name each of them once')
    return tuple(tuple(block) for block in blocks)


def canonical_order(names: Iterable[str]) -> tuple[str, ...]:
    """Sort names as the published models list them: h, v, then windows by size, each before its flip.

    Example:
        >>> canonical_order(['w7', 'v_flip', 'w2', 'h'])
        ('h', 'v_flip', 'w2', 'w7')
    """

    def rank(name: str) -> tuple[int, int, bool]:
        direction = parse_direction(name)
        return 'hvw'.index(direction.path), direction.window, direction.flip

    return tuple(sorted(names, key=rank))


def nearest_direction(name: str, candidates: Iterable[str]) -> str:
    """Choose the candidate whose way over the map is most like a direction's.

    The path counts first: the same one, else rows for windows and the largest windows for rows, whose tokens are
    walked row by row too, and columns last. Among windows, the one of the nearest size is taken. Of what is left, one
    that is walked from the same end is preferred.

    Args:
        name: The direction.
        candidates: Names, at least one.

    Example:
        >>> nearest_direction('w7_flip', ['h', 'v', 'h_flip', 'v_flip'])
        'h_flip'
    """
    wanted = parse_direction(name)

    def distance(candidate: str) -> tuple[int, float, bool]:
        other = parse_direction(candidate)
        if other.path == wanted.path:
            path, size = 0, abs(math.log(other.window / wanted.window))
        else:
            path, size = 2 if 'v' in (other.path, wanted.path) else 1, -float(other.window)
        return path, size, other.flip != wanted.flip

    return min(candidates, key=distance)
