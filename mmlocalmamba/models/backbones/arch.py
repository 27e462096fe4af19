"""What all backbones check about their arguments."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mmlocalmamba.directions import load_directions, parse_directions


def resolve_arch(
    arch: str | Mapping[str, Any],
    zoo: Mapping[str, Mapping[str, Any]],
    keys: Collection[str],
    owner: str,
    optional: Collection[str] = (),
) -> dict[str, Any]:
    """Look an architecture up by name, or check a dict that describes one.

    Args:
        arch: A name or a dict.
        zoo: Dicts by name.
        keys: Keys that a dict must have.
        owner: The backbone's name, for messages.
        optional: Keys that a dict may have.

    Raises:
        ValueError: If the name is unknown, or the dict lacks a key or has one too many.
    """
    if isinstance(arch, str):
        if arch not in zoo:
            raise ValueError(
                f'{owner} has no arch {arch!r}: choose from {sorted(zoo)}, or give a dict with {sorted(keys)}'
            )
        return dict(zoo[arch])
    if set(arch) - set(optional) != set(keys):
        more = f', and may have {sorted(optional)}' if optional else ''
        raise ValueError(
            f'a {owner} arch given as a dict has exactly the keys {sorted(keys)}{more}; got {sorted(arch)}'
        )
    return dict(arch)


def resolve_directions(directions: str | Sequence[Sequence[str]], depth: int) -> tuple[tuple[str, ...], ...]:
    """Check the directions of every block; a string is the path of a JSON file that holds them.

    Raises:
        ValueError: If a direction is unknown, or there is not one list per block.
        FileNotFoundError: If the file does not exist.
    """
    if isinstance(directions, str):
        return parse_directions(load_directions(directions), depth)
    return parse_directions(directions, depth)


def resolve_out_indices(out_indices: Sequence[int], count: int, what: str) -> tuple[int, ...]:
    """Check output indices; negative ones count from the end.

    Raises:
        ValueError: If there is none, one repeats, or one is out of range.
    """
    indices = tuple(out_indices)
    resolved = tuple(index + count if index < 0 else index for index in indices)
    if not resolved or len(set(resolved)) != len(resolved) or not all(0 <= index < count for index in resolved):
        raise ValueError(
            f'out_indices={indices} must name at least one of the {count} {what}, each once: 0 to {count - 1}, '
            f'or from the end -1 to {-count}'
        )
    return resolved


def drop_path_rates(last: float, depth: int) -> list[float]:
    """Give each block's rate of stochastic depth, rising linearly from 0 to that of the last block."""
    return [last * block / max(depth - 1, 1) for block in range(depth)]


def square_side(img_size: int | Sequence[int]) -> int:
    """Give the side of a square image; mm configs write it as (height, width).

    Raises:
        ValueError: If height and width differ.
    """
    if isinstance(img_size, int):
        return img_size
    if len(img_size) != 2 or img_size[0] != img_size[1]:
        raise ValueError(
            f'img_size={tuple(img_size)} must be one number or twice the same: position tables are square, and resized '
            'to whatever images come'
        )
    return img_size[0]


def with_pretrained(init_cfg: dict[str, Any] | None, pretrained: str | None) -> dict[str, Any] | None:
    """Give the ``init_cfg`` that loads a checkpoint, where mmseg's models hand it on as ``pretrained``.

    Raises:
        ValueError: If both are given.
    """
    if pretrained is None:
        return init_cfg
    if init_cfg is not None:
        raise ValueError(f'pretrained={pretrained!r} and init_cfg exclude each other: give one of them')
    return dict(type='Pretrained', checkpoint=pretrained)


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise a ValueError unless low <= value <= high."""
    if not low <= value <= high:
        raise ValueError(f'{name}={value} is out of range: it must be between {low} and {high}')
