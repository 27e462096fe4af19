"""Leaves bad annotations out, where the config says ``bad_samples = 'skip'``."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from mmlocalmamba.datasets.bad_samples import BadSample, BadSampleList, check_policy

from .coco import CocoUse, coco_uses, is_tolerated
from .coco_file import CocoFile, read_json
from .findings import plural

_RANKS = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')


def clean_annotations(cfg: Config, splits: Sequence[str]) -> list[str]:
    """Point a config at copies of its COCO files without their bad records, if ``bad_samples`` is ``'skip'``.

    The copies lie in ``clean_annotations`` in the work dir, under the files' names. What is left out is listed in
    ``bad_samples.txt`` in the work dir. Files without bad records stay as they are, and all files do with ``'raise'``.

    Several processes may do this at once: all write the same, and a name stands for a whole file at any time.

    Args:
        cfg: The whole config, with ``work_dir``; ``ann_file`` of data sets and metrics is changed in place.
        splits: Which of 'train', 'val' and 'test' will run.

    Returns:
        One sentence per file, for the log.

    Raises:
        ValueError: If ``bad_samples`` is neither ``'raise'`` nor ``'skip'``.
        OSError: If the work dir cannot be written to.
    """
    check_policy(cfg.get('bad_samples', 'raise'))
    if cfg.get('bad_samples', 'raise') != 'skip':
        return []
    copies: dict[Path, Path] = {}
    sentences = []
    for use in coco_uses(cfg, splits):
        source = use.path.absolute()
        if source not in copies:
            file = use.scan()
            if not file.bad or is_tolerated(file):
                continue
            folder = Path(cfg.work_dir).absolute() / 'clean_annotations'
            copies[source] = _free_name(folder, source, list(copies.values()))
            _write_clean(file, copies[source])
            sentences.append(_list_bad(file, use, copies[source], Path(cfg.work_dir)))
        use.part['ann_file'] = str(copies[source])  # absolute: it is not joined to data_root
    return sentences


def _free_name(folder: Path, source: Path, taken: Sequence[Path]) -> Path:
    """Give a file's name in a folder, with a number if another file has it."""
    target, number = folder / source.name, 1
    while target in taken:
        number += 1
        target = folder / f'{source.stem}_{number}{source.suffix}'
    return target


def _write_clean(file: CocoFile, target: Path) -> None:
    """Write a file without its bad records, beside its name first."""
    content = read_json(file.path)
    for kind in ('images', 'annotations'):
        bad = {record.place for record in file.bad if record.kind == kind}
        if bad:
            content[kind] = [record for index, record in enumerate(content[kind]) if index not in bad]
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile('w', dir=target.parent, suffix='.json', delete=False) as copy:
        json.dump(content, copy)
    Path(copy.name).chmod(0o644)
    os.replace(copy.name, target)


def _list_bad(file: CocoFile, use: CocoUse, target: Path, work_dir: Path) -> str:
    """List the bad records in the first process, and say how many there are."""
    bad_samples = BadSampleList(work_dir)
    if all(os.environ.get(name, '0') == '0' for name in _RANKS):
        for record in file.bad:
            bad_samples.add(BadSample(f'{record.name} of {file.path}', record.problem))
    images = sum(record.kind == 'images' for record in file.bad)
    counts = [plural(images, 'image')] if images else []
    if len(file.bad) > images:
        counts.append(plural(len(file.bad) - images, 'annotation'))
    return (
        f"bad_samples='skip': {' and '.join(counts)} of {file.path} left out. They are listed in {bad_samples.path}; "
        f'{use.key} is now {target}.'
    )
