"""What a training run has logged: MMEngine's ``scalars.json``, which LocalVisBackend writes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

NOT_SCALARS = ('step', 'iter', 'epoch', 'time', 'data_time', 'memory', 'base_lr')
"""Where a record belongs and how long it took, not what was trained; ``base_lr`` repeats ``lr``."""


class Curve(NamedTuple):
    """A value over training.

    Attributes:
        iterations: Where it was logged, ascending.
        values: What was logged.
    """

    iterations: tuple[int, ...]
    values: tuple[float, ...]


def read_curves(work_dir: str | Path) -> dict[str, Curve]:
    """Read the curves of a work dir, by name.

    Every start of a run leaves a folder. A later start replaces what earlier ones logged from its first iteration on,
    so that a resumed run is one curve. Metrics that were logged by epoch are put at the epoch's last iteration.

    Args:
        work_dir: The folder that ``--work-dir`` named.

    Raises:
        FileNotFoundError: If it holds no log of training.
        ValueError: If a log holds anything but records.
    """
    files = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    records: list[dict[str, Any]] = []
    for path in files:
        new = _with_iterations(list(_read_records(path)))
        if new:
            first = new[0]['iter']
            records = [record for record in records if record['iter'] < first] + new
    if not records:
        raise FileNotFoundError(
            f'{work_dir} holds no log of training: want <start>/vis_data/scalars.json in it, which a visualizer with '
            'LocalVisBackend writes'
        )
    points: dict[str, dict[int, float]] = {}
    for record in records:
        for name, value in record.items():
            if name not in NOT_SCALARS and isinstance(value, (int, float)):
                points.setdefault(name, {})[record['iter']] = float(value)
    return {name: Curve(tuple(values), tuple(values.values())) for name, values in points.items()}


def _read_records(path: Path) -> Iterator[dict[str, Any]]:
    lines = path.read_text(encoding='utf-8', errors='replace').splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines) and not line.endswith('\n'):
                return  # the run was killed while it wrote
            raise ValueError(f'{path}, line {number}, is not valid JSON: {error}') from error
        if not isinstance(record, dict) or 'step' not in record:
            raise ValueError(f'{path}, line {number}, is no record of LocalVisBackend: it has no step')
        yield record


def _with_iterations(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Say of every record, in the order of logging, which iteration it belongs to; records of a test run are left out.

    Training records hold ``iter``. Those of validation hold ``step`` alone: the epoch if training is by epochs, and
    then the iteration is that of the last training record before it.
    """
    trained = [record for record in records if 'iter' in record]
    by_epoch = any('epoch' in record for record in trained)
    placed = []
    last = None
    for record in records:
        if 'iter' in record:
            last = record['iter']
        elif last is None:
            continue  # nothing was trained before: a test, or a validation on resuming
        place = record.get('iter', last if by_epoch else record['step'])
        placed.append({**record, 'iter': place})
    return placed


def choose_curves(names: Sequence[str]) -> list[str]:
    """Choose what is worth a panel: losses, learning rate, gradient norm, entropy of a search, and main metrics."""

    def wanted(name: str) -> bool:
        last = name.rsplit('/', 1)[-1]
        return 'loss' in last or last in ('lr', 'grad_norm', 'entropy') or _is_main_metric(last)

    order = ('loss', 'lr', 'grad_norm')
    chosen = [name for name in names if wanted(name)]
    first = [name for name in order if name in chosen]
    losses = [name for name in chosen if 'loss' in name and name not in order]
    return [*first, *losses, *(name for name in chosen if name not in first and name not in losses)]


def _is_main_metric(name: str) -> bool:
    return name.endswith(('mAP', 'mIoU', 'mAcc', 'aAcc', 'top1', 'top5'))
