"""Do run-length masks cover their images? A mask that does not makes pycocotools give garbage, or hang."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_COMPRESSED = re.compile('(?:[P-o]{0,6}[0-O])+')  # characters from P on are followed by more of the same number
_CHUNK = 4096  # strings at a time: the arrays below take some 100 bytes per character


def list_problem(counts: Sequence[Any], pixels: int) -> str | None:
    """Say what is wrong with the counts of an uncompressed mask.

    Args:
        counts: Numbers of pixels, alternately outside and inside.
        pixels: Pixels of the image.

    Returns:
        The end of a sentence, or None if nothing is wrong.
    """
    if any(type(count) is not int or count < 0 for count in counts):
        return 'has counts that are no whole numbers of 0 and more'
    return _coverage(sum(counts), pixels)


def string_problems(strings: Sequence[str], pixels: Sequence[int]) -> list[str | None]:
    """Say what is wrong with the counts of compressed masks.

    Args:
        strings: The counts as pycocotools writes them: five bits of a number per character, differences of every
            second number from the fourth on (``rleFrString`` in pycocotools' ``maskApi.c``).
        pixels: Pixels of each image.

    Returns:
        The end of a sentence for each, or None if nothing is wrong.
    """
    problems: list[str | None] = []
    for start in range(0, len(strings), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        problems += _chunk_problems(strings[chunk], pixels[chunk])
    return problems


def _chunk_problems(strings: Sequence[str], pixels: Sequence[int]) -> list[str | None]:
    problems: list[str | None] = [
        None if _COMPRESSED.fullmatch(text) else 'has counts that are no compressed run lengths' for text in strings
    ]
    whole = [index for index, problem in enumerate(problems) if problem is None]
    if whole:
        totals, negative = _totals([strings[index] for index in whole])
        for index, total, below in zip(whole, totals.tolist(), negative.tolist(), strict=True):
            problems[index] = 'has a count below 0' if below else _coverage(total, pixels[index])
    return problems


def _totals(strings: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Add up the counts of each mask, and tell which masks have a count below 0."""
    code = np.frombuffer(''.join(strings).encode(), np.uint8).astype(np.int64) - ord('0')
    is_last = code < 32
    ends = np.flatnonzero(is_last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(len(code)) - np.repeat(starts, ends - starts + 1)
    digits = (code & 31) << (5 * place)
    numbers = np.add.reduceat(digits, starts)
    numbers -= ((code[ends] & 16) > 0) * (np.int64(1) << (5 * (ends - starts + 1)))
    string_ends = np.searchsorted(ends, np.cumsum([len(text) for text in strings]) - 1)
    lengths = np.diff(string_ends, prepend=-1)
    owner = np.repeat(np.arange(len(strings)), lengths)
    index = np.arange(len(numbers)) - np.repeat(string_ends - lengths + 1, lengths)
    counts = _undo_differences(numbers, owner, index)
    totals = np.bincount(owner, counts, len(strings)).astype(np.int64)
    return totals, np.bincount(owner, counts < 0, len(strings)) > 0


def _undo_differences(
    numbers: NDArray[np.int64], owner: NDArray[np.int64], index: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Add to every number from a mask's fourth on the count two places before."""
    group = owner * 3 + np.where(index == 0, 0, 1 + index % 2)  # the first one; the even ones after it; the odd ones
    order = np.argsort(group, kind='stable')
    sums = np.cumsum(numbers[order])
    first = np.flatnonzero(np.diff(group[order], prepend=-1))
    before = np.concatenate([[0], sums])[first]
    counts = np.empty_like(sums)
    counts[order] = sums - np.repeat(before, np.diff(first, append=len(sums)))
    return counts


def _coverage(total: int, pixels: int) -> str | None:
    if total == pixels:
        return None
    return f'covers {total} pixels, but its image has {pixels}'
