"""Importing the backbones where there is no timm, to measure them: they need nothing else beside PyTorch.

The backbones' own code runs unchanged, with a drop path that drops nothing. Everything else of timm is a placeholder
that says what is missing as soon as it is used.
"""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from torch import Tensor, nn


class DropPath(nn.Module):
    """timm's at a rate of 0.

    Raises:
        ValueError: If the rate is another one.
    """

    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()
        if drop_prob:
            raise ValueError(f'a drop path rate of {drop_prob} wants timm: pip install timm')

    def forward(self, x: Tensor) -> Tensor:
        """Return x."""
        return x


class _StandIn(ModuleType):
    """A module of timm."""

    __path__: list[str] = []  # noqa: RUF012 (a package without files)

    def __getattr__(self, name: str) -> Any:
        full = f'{self.__name__}.{name}'
        if name.startswith('__'):
            raise AttributeError(full)
        return DropPath if full == 'timm.layers.DropPath' else _placeholder(full)


def _placeholder(full: str) -> type:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f'{full} is needed here: pip install timm')

    # Not __init__: classes that derive from it are defined, and none of them is made.
    return type(full.rpartition('.')[2], (), {'__new__': refuse})


class _Finder(MetaPathFinder, Loader):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.split('.')[0] == 'timm' else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def stand_in() -> tuple[str, ...]:
    """Let the backbones be imported without timm; returns the packages that are missing."""
    missing = tuple(name for name in ('mmengine', 'mmcv', 'timm') if find_spec(name) is None)
    if 'timm' in missing:
        sys.meta_path.append(_Finder())
    return missing
