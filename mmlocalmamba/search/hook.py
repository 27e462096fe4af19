"""Writes down how the probabilities of the candidate directions develop."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmlocalmamba.engine.main_process import on_main_process
from mmlocalmamba.registry import HOOKS

from .supernet import candidates, probabilities, set_num_sampled

LOG_NAME = 'directions_log.jsonl'


@HOOKS.register_module()
class DirectionSearchHook(Hook):
    """Logs softmax(alpha) of every block over time, and chooses how many branches a training step computes.

    ``<work_dir>/directions_log.jsonl`` gets one JSON object per line: ``iter``, ``epoch`` and ``probabilities``, one
    dict of direction to probability per block. It is written before training, every ``interval`` iterations and after
    training; resuming goes on with the same file, less what lies after the resumed iteration. A last line that a killed
    run wrote half is dropped. The main process writes; if it cannot, every process raises.
    ``tools/analysis/plot_directions.py`` draws it. The log shows the mean entropy of the blocks, relative to that of
    equal probabilities, under ``search/entropy``.

    Args:
        interval: Write every so many iterations. Default: 100.
        num_sampled: Branches to draw per block and step (single-path sampling); None computes all of them, as the
            paper does. See :func:`mmlocalmamba.search.set_num_sampled`.

    Raises:
        ValueError: If ``interval`` is not a positive whole number; before training, if the model does not search, or
            if a resumed run's file holds anything but records.
        OSError: From within training, if the file cannot be written.
        RuntimeError: In the other processes, if the main process failed.
    """

    priority = 'NORMAL'

    def __init__(self, interval: int = 100, num_sampled: int | None = None) -> None:
        if not isinstance(interval, int) or interval < 1:
            raise ValueError(f'interval must be a positive whole number of iterations, got {interval!r}')
        self.interval = interval
        self.num_sampled = num_sampled
        self._written: int | None = None

    def before_train(self, runner: Runner) -> None:
        """Set the sampling up, and start the file."""
        model = _bare(runner.model)
        set_num_sampled(model, self.num_sampled)
        names = candidates(model)
        sampled = 'all' if self.num_sampled is None else f'{self.num_sampled} drawn'
        runner.logger.info(
            f'Searching the scan directions of {len(names)} blocks, {max(map(len, names))} candidates each at most, '
            f'{sampled} per step'
        )
        self._written = on_main_process(partial(_forget_after, Path(runner.work_dir) / LOG_NAME, runner.iter))
        if runner.iter % self.interval == 0:  # a resumed run has no more records than one without a stop
            self._write(runner)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        """Write the probabilities down when it is time."""
        if self.every_n_train_iters(runner, self.interval):
            # The runner counts an iteration up only after its hooks.
            self._write(runner, runner.iter + 1)

    def after_train(self, runner: Runner) -> None:
        """Write the last probabilities down."""
        self._write(runner)

    def _write(self, runner: Runner, iteration: int | None = None) -> None:
        iteration = runner.iter if iteration is None else iteration
        if iteration == self._written:
            return
        blocks = probabilities(_bare(runner.model))
        record = {'iter': iteration, 'epoch': runner.epoch, 'probabilities': blocks}
        on_main_process(partial(_append, Path(runner.work_dir) / LOG_NAME, record))
        self._written = iteration
        runner.message_hub.update_scalar('train/search/entropy', relative_entropy(blocks))


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """Read what :class:`DirectionSearchHook` wrote.

    The last line may be incomplete, if the run was killed while it wrote: it is left out, and the log says so.

    Args:
        path: A ``directions_log.jsonl``.

    Returns:
        Its records, oldest first.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path} is no file: DirectionSearchHook writes {LOG_NAME} in the work dir of a search')
    records = []
    # A cut can also leave bytes that are no text.
    for number, line in enumerate(path.read_text(encoding='utf-8', errors='replace').splitlines(keepends=True), 1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            if not line.endswith('\n'):  # only the last line can lack it
                print_log(
                    f'{path}, line {number}, is incomplete (the run was killed while it wrote): it is left out',
                    logger='current',
                    level=logging.WARNING,
                )
                break
            raise ValueError(
                f'{path}, line {number}, is not valid JSON: {error}. Remove the line, or move the file away to go on '
                'without it'
            ) from error
        if not isinstance(record, dict) or not {'iter', 'probabilities'} <= set(record):
            raise ValueError(f'{path}, line {number}, is no record of DirectionSearchHook: no iter and probabilities')
        records.append(record)
    return records


def relative_entropy(blocks: list[dict[str, float]]) -> float:
    """Average the blocks' entropies, each relative to that of equal probabilities: 1 is undecided, 0 is decided.

    It is NaN if a probability is: a search that diverged has not decided.
    """
    ratios = [
        -sum(p * math.log(p) if p > 0 else p for p in block.values()) / math.log(len(block))
        for block in blocks
        if len(block) > 1
    ]
    return sum(ratios) / max(len(ratios), 1)


def _forget_after(path: Path, iteration: int) -> int | None:
    """Drop the records of iterations that a resumed run will do again; all of an earlier run's at iteration 0.

    Returns:
        The iteration of the last record that is left, if any.
    """
    if not path.is_file():
        return None
    kept = [record for record in read_log(path) if record['iter'] <= iteration] if iteration > 0 else []
    # The old file stays whole until the new one is.
    new = path.with_name(f'{path.name}.new')
    new.write_text(''.join(_line(record) for record in kept), encoding='utf-8')
    os.replace(new, path)
    return kept[-1]['iter'] if kept else None


def _append(path: Path, record: dict[str, Any]) -> None:
    try:
        with path.open('a', encoding='utf-8') as file:
            file.write(_line(record))
    except OSError as error:
        free = shutil.disk_usage(path.parent).free
        raise OSError(
            error.errno, f'could not write to {path}: {error.strerror} ({free:,} bytes are free there)'
        ) from error


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record) + '\n'


def _bare(model: nn.Module) -> nn.Module:
    return model.get_submodule('module') if is_model_wrapper(model) else model
