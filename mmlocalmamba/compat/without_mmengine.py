"""The little of MMEngine that the backbones use, for programs that have PyTorch and timm alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

HOW_TO_GET_MM = (
    "pip install 'mmlocalmamba[mminstall]' installs the mm packages; the backbones alone need no more than PyTorch and "
    'timm'
)

T = TypeVar('T')


class BaseModule(nn.Module):
    """A module that keeps how it is to be initialised.

    Args:
        init_cfg: Settings, of which the backbones understand ``dict(type='Pretrained', checkpoint=...)``.
    """

    def __init__(self, init_cfg: Any = None) -> None:
        super().__init__()
        self.init_cfg = init_cfg
        self.is_init = False

    def init_weights(self) -> None:
        """Initialise as ``init_cfg`` says; without it, the weights of construction stay."""
        initialize(self, self.init_cfg or [])
        self.is_init = True


class PretrainedInit:
    """The class of MMEngine that ``type='Pretrained'`` names."""


def initialize(module: nn.Module, init_cfg: Sequence[Any] | dict[str, Any]) -> None:
    """Apply initialisers, which are MMEngine's.

    Raises:
        ModuleNotFoundError: If there is any.
    """
    if init_cfg:
        raise ModuleNotFoundError(f'init_cfg={init_cfg!r} names an initialiser of MMEngine: {HOW_TO_GET_MM}')


class Registry:
    """Registers nothing: there are no configs to look anything up for.

    Args:
        name: What it would hold, for messages.
        parent: Not used.
        scope: Not used.
        locations: Not used.
    """

    def __init__(self, name: str, parent: Any = None, scope: str | None = None, locations: Sequence[str] = ()) -> None:
        self.name = name

    def register_module(self, name: str | None = None) -> Callable[[type[T]], type[T]]:
        """Give a decorator that returns its class as it is."""
        return lambda registered: registered

    def build(self, cfg: Any) -> Any:
        """Refuse to build.

        Raises:
            ModuleNotFoundError: Always.
        """
        raise ModuleNotFoundError(f'building a {self.name} from a config needs MMEngine: {HOW_TO_GET_MM}')

    get = build


class ConfigDict(dict[str, Any]):
    """Stands for a config in a checkpoint of MMEngine's Runner, whose tensors are read."""


class HistoryBuffer:
    """Stands for a log in a checkpoint of MMEngine's Runner, whose tensors are read.

    The file names its statistics, and nothing computes them.
    """

    min = max = current = mean = None


ConfigDict.__module__, HistoryBuffer.__module__ = 'mmengine.config.config', 'mmengine.logging.history_buffer'


def print_log(msg: str, logger: str | None = None, level: int = logging.INFO) -> None:
    """Write to the logger ``mmlocalmamba``; ``logger`` is not used."""
    logging.getLogger('mmlocalmamba').log(level, msg)


def get_rank() -> int:
    """Return the rank of this process; 0 outside distributed runs."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def all_gather_object(data: T) -> list[T]:
    """Collect an object of every process; outside distributed runs, that of this one."""
    if not torch.distributed.is_initialized():
        return [data]
    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, data)
    return gathered
