"""Importing the backbones where there is no mm package and no timm, to measure them.

The backbones' own code runs unchanged. Of what they inherit, only what a forward and a backward need is here: a module
with an ``init_cfg``, a registry that registers nothing, and a drop path that drops nothing. Everything else of these
packages is a placeholder that says what is missing as soon as it is used.
"""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from torch import Tensor, nn

PACKAGES = ('mmengine', 'mmcv', 'timm')


class BaseModule(nn.Module):
    """What mmengine's does when nothing is to be initialised."""

    def __init__(self, init_cfg: Any = None) -> None:
        super().__init__()
        self.init_cfg = init_cfg


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


class Registry:
    """Gives classes back as they are."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def register_module(self, *args: Any, **kwargs: Any) -> Any:
        """Register nothing."""
        return lambda cls: cls


_REAL: dict[str, Any] = {
    'mmengine.model.BaseModule': BaseModule,
    'mmengine.registry.Registry': Registry,
    'mmengine.registry.MODELS': Registry(),
    'timm.layers.DropPath': DropPath,
}


class _StandIn(ModuleType):
    """A module of a missing package."""

    __path__: list[str] = []  # noqa: RUF012 (a package without files)

    def __getattr__(self, name: str) -> Any:
        full = f'{self.__name__}.{name}'
        if name.startswith('__'):
            raise AttributeError(full)
        return _REAL.get(full) or _placeholder(full)


def _placeholder(full: str) -> type:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f'{full} is needed here: pip install {full.split(".")[0]}')

    # Not __init__: classes that derive from it are defined, and none of them is made.
    return type(full.rpartition('.')[2], (), {'__new__': refuse})


class _Finder(MetaPathFinder, Loader):
    def __init__(self, missing: tuple[str, ...]) -> None:
        self.missing = missing

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.split('.')[0] in self.missing else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def stand_in() -> tuple[str, ...]:
    """Let the backbones be imported; returns the packages that are missing."""
    missing = tuple(name for name in PACKAGES if find_spec(name) is None)
    if missing:
        sys.meta_path.append(_Finder(missing))
    return missing
