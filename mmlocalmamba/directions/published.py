"""Scan directions as data: the searched ones that were published, and those of a user's own search."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

from .names import parse_directions

_PUBLISHED = Path(__file__).with_name('published.json')


@lru_cache(maxsize=1)
def _published() -> dict[str, list[list[str]]]:
    return json.loads(_PUBLISHED.read_text(encoding='utf-8'))


def published_directions(name: str) -> tuple[tuple[str, ...], ...]:
    """Give the directions of a published model: one tuple of four names per block.

    Args:
        name: ``'local_vmamba_tiny'`` (15 blocks), ``'local_vmamba_small'`` (33), ``'local_vim'`` (20, searched once
            for both sizes; paper figure 4) or ``'local_vim_without_search'`` (20; h and w2 with their flips).

    Raises:
        ValueError: If there is no such model.
    """
    table = _published()
    if name not in table:
        raise ValueError(f'no published directions are called {name!r}: choose from {sorted(table)}')
    return tuple(tuple(block) for block in table[name])


def load_directions(path: str | Path) -> tuple[tuple[str, ...], ...]:
    """Read searched directions from a JSON file: a list of lists of names, or a dict with it under ``directions``.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it holds anything else, or an unknown direction.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f'directions={str(path)!r} is no file: give a JSON file of searched directions '
            '(tools/search/export_directions.py writes one), or a list of names per block'
        )
    try:
        data = json.loads(path.read_text(encoding='utf-8'))
    except json.JSONDecodeError as error:
        raise ValueError(f'{path} is not valid JSON: {error}') from error
    blocks = data.get('directions') if isinstance(data, dict) else data
    if not isinstance(blocks, list) or not all(isinstance(block, list) for block in blocks):
        raise ValueError(f"{path} must hold one list of direction names per block, alone or under 'directions'")
    try:
        return parse_directions(blocks, len(blocks))
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
