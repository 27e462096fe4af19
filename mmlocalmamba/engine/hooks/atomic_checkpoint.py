"""Saves checkpoints so that whatever stops a run costs no more than the steps since the last one."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmlocalmamba.engine.checkpoint_files import LAST_CHECKPOINT, PARTIAL, WHOLE_FILES, write_whole
from mmlocalmamba.engine.main_process import in_every_process
from mmlocalmamba.models.weights.damage import damage
from mmlocalmamba.registry import HOOKS


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's CheckpointHook, with the same arguments, for work dirs that survive whatever stops the run.

    - A file gets its name when it is complete and on the disk. Until then it is called ``<name>.partial``.
    - Older checkpoints, and the best one so far, are deleted after the new one and ``last_checkpoint`` are there. So
      the disk holds one checkpoint more than ``max_keep_ckpts`` for a moment.
    - When a file cannot be written, every process stops, with the bytes that are needed and free and the name of the
      last whole checkpoint.
    - After resuming, a best checkpoint that is gone or damaged is not trusted: the next evaluation makes another.

    It works the same in runs that count epochs and iterations. Files on a remote file system (``out_dir='s3://...'``,
    ``backend_args``) are written by MMEngine's backend.

    Raises:
        OSError: From within training, if a checkpoint cannot be written.
        RuntimeError: In the other processes then.
    """

    backend_args: dict[str, Any] | None
    last_ckpt: str | None

    def before_train(self, runner: Runner) -> None:
        """Choose how files are written, and look at what an earlier run has left."""
        is_local = '://' not in str(self.out_dir or runner.work_dir)
        if is_local and self.backend_args is None and self.file_client_args is None:
            self.backend_args = {'backend': WHOLE_FILES}
        if is_local and runner._resume:
            self._name_resumed(runner)
        super().before_train(runner)
        if is_local and is_main_process():
            for leftover in Path(self.out_dir).glob(f'*.pth{PARTIAL}'):
                leftover.unlink()
        if self.save_best is not None:
            for metric in self.key_indicators:
                self._check_best(runner, metric)

    def _name_resumed(self, runner: Runner) -> None:
        """Let ``last_checkpoint`` name what is resumed from, before anything older is deleted."""
        named = runner.message_hub.runtime_info.get('last_ckpt')
        # Its path may be another than then: the work dir was moved or copied.
        paths = [] if named is None else [Path(runner.work_dir) / Path(named).name, Path(named)]
        self.last_ckpt = next((str(path) for path in paths if path.is_file()), None)
        if self.last_ckpt is not None and is_main_process():
            _write_last(runner, self.last_ckpt)

    def _check_best(self, runner: Runner, metric: str) -> None:
        """Forget a best checkpoint that is not whole."""
        best = self._best_path(metric)
        if best is None or '://' in best:
            return
        problem = damage(best) if Path(best).is_file() else None if Path(best).is_dir() else 'it is gone'
        if problem is None:
            return
        runner.logger.warning(
            f'The best checkpoint so far, {best}, cannot be used: {problem}. The next evaluation counts as the best one'
        )
        self._set_best(runner, metric, None)
        runner.message_hub.runtime_info.pop(self._hub_key('best_score', metric), None)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        """Write a checkpoint, then ``last_checkpoint``, and then delete those that are too many."""
        outdated = self._note_step(runner, step)
        name = self.filename_tmpl.format(step)
        last, self.last_ckpt = self.last_ckpt, self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)

        def save() -> None:
            self._write(
                runner,
                name,
                last,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=self.by_epoch,
                **self.args,
            )
            if is_main_process():
                _write_last(runner, str(self.last_ckpt))
                for old in outdated:
                    self._remove(self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(old)))

        in_every_process(save)
        if self.max_keep_ckpts > 0:
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))

    def _note_step(self, runner: Runner, step: int) -> list[int]:
        """Add a step to those whose checkpoints are kept; give those that are to be deleted for it.

        The checkpoint itself still lists the latter. If the run ends before it deletes them, resuming does.
        """
        if self.max_keep_ckpts <= 0 or (self.keep_ckpt_ids and self.keep_ckpt_ids[-1] == step):
            return []
        listed = [*self.keep_ckpt_ids, step]
        runner.message_hub.update_info('keep_ckpt_ids', listed)
        self.keep_ckpt_ids.append(step)  # a deque of that length, which drops the oldest
        return [old for old in listed if old not in self.keep_ckpt_ids]

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, Any]) -> None:
        """Write a checkpoint for every metric that is the best so far, and then delete the former ones."""
        if not self.save_best:
            return
        if 'auto' in self.key_indicators:
            self._init_rule(self.rules, [next(iter(metrics))])
        unit, step = ('epoch', runner.epoch) if self.by_epoch else ('iter', runner.iter)
        former = []
        for metric, rule in zip(self.key_indicators, self.rules, strict=True):
            score, key = metrics[metric], self._hub_key('best_score', metric)
            best_score = runner.message_hub.runtime_info.get(key, self.init_value_map[rule])
            if score is None or not self.is_better_than[metric](score, best_score):
                continue
            name = f'best_{metric}_{self.filename_tmpl.format(step)}'.replace('/', '_')
            former.append(self._best_path(metric))
            runner.message_hub.update_info(key, score)
            self._set_best(runner, metric, self.file_backend.join_path(self.out_dir, name))
            meta = {'epoch': runner.epoch, 'iter': runner.iter}
            parts = {'save_optimizer': False, 'save_param_scheduler': False, 'meta': meta, 'by_epoch': False}
            in_every_process(partial(self._write, runner, name, self.last_ckpt, **parts))
            runner.logger.info(f'The best checkpoint with {score:0.4f} {metric} at {step} {unit} is saved to {name}.')
        if former and self.last_ckpt is not None:
            # What is resumed from must know of the best: it was written before the evaluation.
            self._save_checkpoint_with_step(runner, step, {'epoch': runner.epoch, 'iter': runner.iter})
        in_use = [self._best_path(metric) for metric in self.key_indicators]
        if is_main_process():
            for path in former:
                if path is not None and path not in in_use:
                    self._remove(path)

    def _write(self, runner: Runner, name: str, last: str | None, **parts: Any) -> None:
        """Let the runner write a checkpoint.

        Args:
            runner: The runner.
            name: Name of the file.
            last: The last whole checkpoint.
            parts: What the checkpoint holds, as MMEngine's ``save_checkpoint`` takes it.

        Raises:
            OSError: If it cannot be written.
        """
        try:
            runner.save_checkpoint(self.out_dir, name, self.file_client_args, backend_args=self.backend_args, **parts)
        except OSError as error:
            resume = 'There is no earlier one' if last is None else f'The last whole one is {last}: go on with --resume'
            raise OSError(error.errno, f'{error.strerror or error}. {resume}') from error

    def _remove(self, path: str) -> None:
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):  # DeepSpeed's checkpoints are folders
            self.file_backend.rmtree(path)

    def _hub_key(self, what: str, metric: str) -> str:
        """Give the name under which MMEngine keeps what belongs to a metric."""
        return what if len(self.key_indicators) == 1 else f'{what}_{metric}'

    def _best_path(self, metric: str) -> str | None:
        return self.best_ckpt_path if len(self.key_indicators) == 1 else self.best_ckpt_path_dict.get(metric)

    def _set_best(self, runner: Runner, metric: str, path: str | None) -> None:
        if len(self.key_indicators) == 1:
            self.best_ckpt_path = path
        else:
            self.best_ckpt_path_dict[metric] = path
        key = self._hub_key('best_ckpt', metric)
        if path is None:
            runner.message_hub.runtime_info.pop(key, None)
        else:
            runner.message_hub.update_info(key, path)


def _write_last(runner: Runner, checkpoint: str) -> None:
    """Write ``last_checkpoint``: text, as MMEngine reads it; a path that is no text keeps its bytes."""
    write_whole(Path(runner.work_dir) / LAST_CHECKPOINT, checkpoint.encode('utf-8', errors='surrogateescape'))
