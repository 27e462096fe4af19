"""The data sets that a config names, out of the wrappers around them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS

from mmlocalmamba.datasets.image_folder import ImageFolder, class_folders

from .settings import registered


@dataclass(frozen=True)
class DataSet:
    """One data set of a config.

    Attributes:
        key: Where it is, such as ``'train_dataloader.dataset'``.
        split: ``'train'``, ``'val'`` or ``'test'``.
        cfg: Its config.
        cls: Its class, if it is known.
    """

    key: str
    split: str
    cfg: dict[str, Any]
    cls: type | None

    @property
    def is_local(self) -> bool:
        """Whether its files lie in the file system."""
        return is_local(self.cfg) and '://' not in str(self.cfg.get('data_root'))

    def path(self, name: str) -> Path | None:
        """Give the path that a setting such as ``ann_file`` stands for, if it is one in the file system."""
        value = self.cfg.get(name)
        if not self.is_local or not isinstance(value, str) or not value or '://' in value:
            return None
        return Path(self.cfg.get('data_root') or '', value)

    def classes(self) -> tuple[str, ...] | None:
        """Give the names of its classes, in the order of their labels; None if they cannot be told from the config."""
        classes = self._metainfo().get('classes')
        if isinstance(classes, (list, tuple)):
            return tuple(classes)
        folder = self.path('data_prefix')
        if self.cls is ImageFolder and folder is not None and folder.is_dir():
            return tuple(class_folders(folder))
        return None

    def num_things(self) -> int | None:
        """Give the number of countable classes of a panoptic data set; None for others."""
        things = self._metainfo().get('thing_classes')
        return len(things) if isinstance(things, (list, tuple)) else None

    def _metainfo(self) -> Mapping[str, Any]:
        metainfo = self.cfg.get('metainfo') or {}
        if not isinstance(metainfo, Mapping):
            return {}
        load = getattr(self.cls, '_load_metainfo', None)  # MMEngine's: adds METAINFO, and reads files of names
        return metainfo if load is None else load(copy.deepcopy(dict(metainfo)))


def is_local(part: Mapping[str, Any]) -> bool:
    """Tell whether a data set or a metric reads from the file system."""
    backend = part.get('backend_args') or {}
    return backend.get('backend', 'local') in ('local', 'disk')


def data_sets(cfg: Config, split: str) -> Iterator[DataSet]:
    """Yield the data sets of a split, out of wrappers such as RepeatDataset and ConcatDataset."""
    loader = cfg.get(f'{split}_dataloader')
    if isinstance(loader, Mapping) and isinstance(loader.get('dataset'), Mapping):
        yield from _leaves(f'{split}_dataloader.dataset', loader['dataset'], cfg)


def _leaves(key: str, part: dict[str, Any], cfg: Config) -> Iterator[DataSet]:
    wrapped = False
    if isinstance(part.get('dataset'), dict):
        wrapped = True
        yield from _leaves(f'{key}.dataset', part['dataset'], cfg)
    for index, inner in enumerate(part.get('datasets') or ()):
        wrapped = True
        if isinstance(inner, dict):
            yield from _leaves(f'{key}.datasets.{index}', inner, cfg)
    if not wrapped:
        yield data_set_of(key, part, cfg)


def data_set_of(key: str, part: dict[str, Any], cfg: Config) -> DataSet:
    """Describe a data set that is no wrapper.

    Args:
        key: Where it is in the config.
        part: Its config.
        cfg: The whole config.
    """
    return DataSet(key, key.split('_')[0], part, registered(DATASETS, part, cfg))


def metrics(cfg: Config, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (key, config) of the metrics of a split."""
    evaluator = cfg.get(f'{split}_evaluator')
    if isinstance(evaluator, dict):
        yield f'{split}_evaluator', evaluator
    elif isinstance(evaluator, (list, tuple)):
        for index, metric in enumerate(evaluator):
            if isinstance(metric, dict):
                yield f'{split}_evaluator.{index}', metric
