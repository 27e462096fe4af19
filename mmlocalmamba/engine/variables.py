"""Variables at the top of a config that a later file assigns without effect: their values are in the model by then."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.logging import print_log


class Assigned(NamedTuple):
    """A value that a config file gives to a variable, while what the variable is for keeps an older one.

    Attributes:
        value: The value.
        old: The value of the files below; None if they have no such variable.
    """

    value: Any
    old: Any


def idle_assignment(cfg: Config, path: str | Path, name: str, place: Callable[[Config], Any]) -> Assigned | None:
    """Find out whether a variable was assigned after what it is for, so that the assignment changed nothing.

    ``pretrained = 'a.pth'`` below ``_base_`` changes the variable and nothing else: the base file has handed its own
    value on to the model. The user means the model. A file that sets the model's value itself is left alone.

    Args:
        cfg: The whole config, as it was read. The caller has seen that ``place(cfg)`` is not what the variable says.
        path: Its file.
        name: Name of the variable.
        place: Gives what the variable is for, in a config; None if there is nothing.

    Returns:
        None if the place was set last. If one file without bases sets both, the log says that the variable is not used.
    """
    if name not in cfg:
        return None
    value, set_to = cfg[name], place(cfg)
    bases = [(base, Config.fromfile(base)) for base in _bases(path)]
    named = [(file, base) for file, base in bases if name in base]
    keeps_value = [(file, base) for file, base in named if base[name] == value]
    keeps_place = any(place(base) == set_to for _, base in bases) and (
        set_to is not None or all(place(base) is None for _, base in bases)
    )
    if keeps_value:
        file, base = keeps_value[0]
        return idle_assignment(base, file, name, place) if keeps_place else None
    if keeps_place or set_to is None:
        return Assigned(value, named[0][1][name] if named else None)
    print_log(f'{path}: {name} = {value!r} is not used: the config gives {set_to!r}.', 'current', logging.WARNING)
    return None


def _bases(path: str | Path) -> list[str]:
    """Give the files that a config file names as ``_base_``; none for a config that imports them, as Python does."""
    file = str(path)
    if Config._is_lazy_import(file):
        return []
    return [Config._get_cfg_path(base, file)[0] for base in Config._get_base_files(file)]
