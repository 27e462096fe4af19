"""One setting for the folder of the data, and one for the number of classes, wherever a config needs them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from .data_check.data_sets import data_sets
from .data_check.heads import head_counts
from .data_check.settings import model_of

_SPLITS = ('train', 'val', 'test')


def data_roots(cfg: Config) -> tuple[str, ...] | None:
    """Give the folders of a config's data sets, each one once; None if no data set has one."""
    roots = [data_set.cfg.get('data_root') for split in _SPLITS for data_set in data_sets(cfg, split)]
    return tuple(dict.fromkeys(root for root in roots if isinstance(root, str) and root)) or None


def move_data(cfg: Config, new: str, old: str | None = None) -> None:
    """Look for all data in another folder: what ``--cfg-options data_root=<folder>`` does.

    Every path in the data loaders and evaluators that starts with the old folder starts with the new one instead.

    Args:
        cfg: The whole config, changed in place.
        new: The new folder.
        old: The old one. Default: the ``data_root`` of all data sets, if they agree.

    Raises:
        ValueError: If nothing lies in the old folder, or the data sets lie in several and ``old`` is not given.
    """
    found = data_roots(cfg) or ()
    if old is None:
        if len(found) != 1:
            raise ValueError(
                f'data_root={new!r} was given, but the data sets of the config lie in {", ".join(found) or "no folder"}'
                ': give each its own, as train_dataloader.dataset.data_root=... and so on'
            )
        old = found[0]
    moved = [_move(cfg[key], old, new) for key in _loaders_and_evaluators(cfg)]
    if not any(moved):
        raise ValueError(
            f'data_root={new!r} was given, but nothing in the config lies in {old!r}; its data sets lie in '
            f'{", ".join(found) or "no folder"}. Give each its own, as train_dataloader.dataset.data_root=...'
        )
    cfg.data_root = new


def _loaders_and_evaluators(cfg: Config) -> Iterator[str]:
    for split in _SPLITS:
        yield from (key for key in (f'{split}_dataloader', f'{split}_evaluator') if cfg.get(key))


def _move(node: Any, old: str, new: str) -> bool:
    """Change the paths below a part of a config; tell whether there were any."""
    moved = False
    for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
        if isinstance(value, (dict, list)):
            moved |= _move(value, old, new)
        elif isinstance(value, str) and f'{value}/'.startswith(f'{old.rstrip("/")}/'):
            node[key] = new.rstrip('/') + value[len(old.rstrip('/')) :]
            moved = True
    return moved


def set_num_classes(cfg: Config, count: int) -> None:
    """Give every head of the model a number of classes: what ``--cfg-options num_classes=<number>`` does.

    A classifier's data preprocessor gets it too.

    Args:
        cfg: The whole config, changed in place.
        count: The number of classes.

    Raises:
        ValueError: If it is no positive integer, no head has a number of classes, or a head has two.
    """
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f'want a positive integer as num_classes, got {count!r}')
    keys = [key for key, _ in head_counts(model_of(cfg), 'model', cfg)]
    if not keys:
        raise ValueError(f'num_classes={count} was given, but no head of the model has a number of classes')
    for key in keys:
        if ' + ' in key:
            raise ValueError(f'num_classes={count} was given, but the model has {key}: give each of them')
    cfg.merge_from_dict(dict.fromkeys(keys, count))
    cfg.num_classes = count
