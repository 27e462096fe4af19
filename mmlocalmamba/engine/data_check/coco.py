"""Are the annotations of detectors sound, and is there a box to learn from?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import METRICS

from .coco_file import CocoFile, scan_coco_file
from .data_sets import data_sets, is_local, metrics
from .findings import Finding, plural
from .settings import parts, registered, setting

LEFT_OUT_SHARE = 1e-4
"""Share of boxes without area that is only noted: mmdet leaves them out, and COCO's own train2017 has two."""

_SHOWN = 8


@dataclass(frozen=True)
class CocoUse:
    """A place in a config that names a COCO file.

    Attributes:
        key: The key of the file's name, such as ``'train_dataloader.dataset.ann_file'``.
        split: ``'train'``, ``'val'`` or ``'test'``.
        part: The part of the config that ``ann_file`` is in.
        path: The file.
        classes: Classes that are asked of it.
        names_key: The key of the classes.
        with_masks: Whether masks are read.
        is_scored: Whether somebody learns from the annotations or compares predictions with them.
    """

    key: str
    split: str
    part: dict[str, Any]
    path: Path
    classes: tuple[str, ...] | None
    names_key: str
    with_masks: bool
    is_scored: bool

    def scan(self) -> CocoFile:
        """Read the file."""
        return scan_coco_file(self.path, self.with_masks)


def coco_uses(cfg: Config, splits: Sequence[str]) -> list[CocoUse]:
    """List the COCO files of data sets and metrics that are there. Files that are missing are not listed.

    Only classes that read their file as ``mmdet.CocoDataset`` does count; LVIS, panoptic and other formats are left
    alone.
    """
    uses: list[CocoUse] = []
    for split in splits:
        scored = [metric for _, metric in metrics(cfg, split) if not metric.get('format_only')]
        is_scored = split == 'train' or bool(scored)
        with_masks = reads_masks(cfg, split)
        found = [data_set for data_set in data_sets(cfg, split) if reads_coco(data_set.cls)]
        for data_set in found:
            path, classes = data_set.path('ann_file'), data_set.classes()
            if path is not None and path.is_file():
                key, names = f'{data_set.key}.ann_file', f'{data_set.key}.metainfo.classes'
                uses.append(CocoUse(key, split, data_set.cfg, path, classes, names, with_masks, is_scored))
        for key, metric in metrics(cfg, split):
            name = metric.get('ann_file')
            if not found or not isinstance(name, str) or not is_local(metric) or not _is_coco_metric(metric, cfg):
                continue
            if Path(name).is_file():
                classes, names = found[0].classes(), f'{found[0].key}.metainfo.classes'
                path, scores = Path(name), not metric.get('format_only')
                uses.append(CocoUse(f'{key}.ann_file', split, metric, path, classes, names, with_masks, scores))
    return uses


def unsound_files(uses: Sequence[CocoUse]) -> Iterator[Finding]:
    """Name what is wrong with files and their records, once per file."""
    seen: set[Path] = set()
    for use in uses:
        path = use.path.absolute()
        if path in seen:
            continue
        seen.add(path)
        file = use.scan()
        if file.problem is not None:
            yield Finding(f'{use.path} ({use.key}) {file.problem}.')
        elif file.bad:
            yield _bad_records(use, file)


def _bad_records(use: CocoUse, file: CocoFile) -> Finding:
    images = sum(record.kind == 'images' for record in file.bad)
    annotations = len(file.bad) - images
    counts = [f'{images:,} of {plural(len(file.sides) + images, "image")}'] if images else []
    if annotations:
        counts.append(f'{annotations:,} of {plural(file.num_annotations or 0, "annotation")}')
    lines = [f'    {record.name} {record.problem}' for record in file.bad[:_SHOWN]]
    if len(file.bad) > _SHOWN:
        lines.append(f'    and {len(file.bad) - _SHOWN:,} more')
    listing = '\n'.join(lines)
    if is_tolerated(file):
        return Finding(f'mmdet leaves {counts[0]} of {use.path} ({use.key}) out:\n{listing}', 'note')
    return Finding(
        f'{" and ".join(counts)} of {use.path} ({use.key}) cannot be used:\n{listing}\n'
        '  Mend the file, or leave them out: --cfg-options bad_samples=skip'
    )


def is_tolerated(file: CocoFile) -> bool:
    """Tell whether a file has so few bad annotations, all of them left out by mmdet, that it is used as it is."""
    few = len(file.bad) <= LEFT_OUT_SHARE * (file.num_annotations or 0)
    return few and all(record.is_left_out for record in file.bad)


def splits_without_boxes(uses: Sequence[CocoUse]) -> Iterator[Finding]:
    """Name files that hold no box of the wanted classes that somebody could learn from, or be compared with."""
    seen: set[Path] = set()
    for use in uses:
        file = use.scan()
        path = use.path.absolute()
        if not use.is_scored or file.problem is not None or path in seen:
            continue
        seen.add(path)
        ids = [number for number, name in file.categories if use.classes is None or name in use.classes]
        if not ids and file.num_annotations:
            continue  # all names are wrong, which the check of names says
        if not any(file.boxes[number] for number in ids):
            yield Finding(f'{use.path} ({use.key}) has no box for {_purpose(use.split)}: {_why_none(file, ids)}')


def _purpose(split: str) -> str:
    return 'training' if split == 'train' else f'the metrics of {split}'


def _why_none(file: CocoFile, ids: Sequence[Any]) -> str:
    crowds, tiny = sum(file.crowds[number] for number in ids), sum(file.tiny[number] for number in ids)
    if not file.num_annotations:
        return 'it has no annotations. Give a file that has some.'
    if crowds and not tiny:
        return f'{plural(crowds, "good annotation")} of the classes, all of them crowds (iscrowd=1), which are ignored.'
    if tiny:
        return (
            f'{plural(tiny, "box")} of the classes, none of which is a pixel wide and high. Boxes are x, y, width and '
            'height in pixels, not fractions of the image.'
        )
    return f'none of its {plural(file.num_annotations, "annotation")} is good and of one of the classes.'


def reads_coco(cls: type | None) -> bool:
    """Tell whether a data set reads its file as mmdet's CocoDataset does."""
    if cls is None:
        return False
    try:
        from mmdet.datasets import CocoDataset
    except ImportError:
        return False
    inherited = ('load_data_list', 'parse_data_info', 'COCOAPI')
    return issubclass(cls, CocoDataset) and all(getattr(cls, name) is getattr(CocoDataset, name) for name in inherited)


def _is_coco_metric(metric: Mapping[str, Any], cfg: Config) -> bool:
    cls = registered(METRICS, metric, cfg)
    return cls is not None and any(base.__name__ == 'CocoMetric' for base in cls.__mro__)


def reads_masks(cfg: Config, split: str) -> bool:
    """Tell whether a split's pipeline or metrics read masks."""
    loader = cfg.get(f'{split}_dataloader') or {}
    if any(part.get('with_mask') is True for _, part in parts(loader.get('dataset'), '')):
        return True
    for _, metric in metrics(cfg, split):
        kinds = setting(metric, 'metric', registered(METRICS, metric, cfg))
        if 'segm' in ([kinds] if isinstance(kinds, str) else kinds or []):
            return True
    return False
