"""What a model's classes are called, how they are coloured, and what COCO numbers them."""

from __future__ import annotations

import colorsys
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DATASETS

Color = tuple[int, int, int]
"""Red, green and blue, from 0 to 255."""


def name_classes(cfg: Config, meta: Any, num_classes: int | None) -> tuple[tuple[str, ...], tuple[Color, ...]]:
    """Name and colour the classes: by the checkpoint, else by the config's data set, else by their numbers."""
    stored = meta.get('dataset_meta') if isinstance(meta, Mapping) else None
    sources = {'the checkpoint': stored, "the config's data set": _metainfo(tested_dataset(cfg))}
    for source, info in sources.items():
        if not isinstance(info, Mapping) or not info.get('classes'):
            continue
        names = info['classes']
        if num_classes is not None and len(names) != num_classes:
            print_log(
                f'{source} names {len(names)} classes, but the model tells {num_classes} apart: its names are not used',
                logger='current',
                level=logging.WARNING,
            )
            continue
        return tuple(map(str, names)), _palette(info.get('palette'), len(names))
    if num_classes is None:
        raise ValueError(
            'neither the checkpoint nor the config names the classes: give test_dataloader.dataset.metainfo='
            'dict(classes=(...)) in the config'
        )
    print_log(
        'Neither the checkpoint nor the config names the classes: they are called by their numbers.',
        logger='current',
        level=logging.WARNING,
    )
    return tuple(map(str, range(num_classes))), _palette(None, num_classes)


def tested_dataset(cfg: Config) -> Any:
    """Give the config of the data set that is tested on, without what wraps it.

    Raises:
        KeyError: If the config has none.
    """
    for key in ('test_dataloader', 'val_dataloader'):
        dataset = (cfg.get(key) or {}).get('dataset')
        while dataset is not None and 'pipeline' not in dataset and ('dataset' in dataset or 'datasets' in dataset):
            dataset = dataset['dataset'] if 'dataset' in dataset else dataset['datasets'][0]
        if dataset is not None:
            return dataset
    raise KeyError(
        'the config has no test_dataloader.dataset: its pipeline says how pictures are prepared for the model'
    )


def _metainfo(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Give what a data set says of its classes, without reading the data."""
    kind = DATASETS.get(dataset['type']) if isinstance(dataset['type'], str) else dataset['type']
    own = {key.lower(): value for key, value in getattr(kind, 'METAINFO', {}).items()}
    given = dataset.get('metainfo') or {}
    if 'classes' in given and 'palette' not in given:
        own.pop('palette', None)  # the colours of other classes
    info = {**own, **given}
    return info if isinstance(info.get('classes'), (list, tuple)) else {}


def _palette(given: Any, count: int) -> tuple[Color, ...]:
    """Take the colours that are given, or make hues that are well apart."""
    if isinstance(given, Sequence) and not isinstance(given, str) and len(given) >= count:
        return tuple((int(red), int(green), int(blue)) for red, green, blue in given[:count])
    colors = []
    for index in range(count):
        # Steps of the golden ratio around the circle of hues never come close to an earlier one.
        red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.85 - 0.25 * (index // 7 % 2), 0.9)
        colors.append((round(255 * red), round(255 * green), round(255 * blue)))
    return tuple(colors)


def category_ids(cfg: Config, classes: Sequence[str]) -> tuple[int, ...]:
    """Give COCO's number of each class, by the config's annotation file where it is at hand; else from 1 on."""
    evaluator = cfg.get('test_evaluator')
    metrics = evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]
    for metric in metrics:
        file = metric.get('ann_file') if isinstance(metric, Mapping) else None
        if isinstance(file, str) and Path(file).is_file():
            categories = json.loads(Path(file).read_text(encoding='utf-8')).get('categories', [])
            numbers = {category['name']: category['id'] for category in categories}
            if set(classes) <= numbers.keys():
                print_log(f'COCO category ids are those of {file}.', logger='current')
                return tuple(numbers[name] for name in classes)
    return tuple(range(1, len(classes) + 1))
