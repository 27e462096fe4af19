"""Bad image files: named before training where that is fast, and named or left out when they are loaded."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.dist import barrier
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner

from mmlocalmamba.datasets.bad_samples import BadSample, BadSampleList, BadSamplePolicy, check_policy
from mmlocalmamba.datasets.checked_loading import BadSampleError, check_loading, leaf_datasets
from mmlocalmamba.datasets.image_problems import absence_problem, is_local
from mmlocalmamba.engine.main_process import on_main_process
from mmlocalmamba.registry import HOOKS

_FILES = ('img_path', 'seg_map_path')
_SHOWN = 8


@HOOKS.register_module()
class BadSamplesHook(Hook):
    """Applies the setting ``bad_samples`` of a config to image files.

    Before training and before testing it looks for files that are missing or empty, without reading any. While samples
    are loaded, the rest is found: files that are cut off or no images, masks of another size. With 'raise', the run
    ends with the file's name. With 'skip', training goes on with another sample in its place; bad samples are listed in
    ``bad_samples.txt`` beside the log, which says how many there are. In validation and testing a bad sample is an
    error in both cases: a metric of fewer images could not be compared with others.

    Args:
        policy: 'raise' or 'skip'.
        scan_seconds: How long to look for missing files at most, for each data set.
        interval: Iterations between two looks at the list.

    Raises:
        ValueError: If the policy is unknown.
        BadSampleError: Before training or testing, if files are missing.
    """

    priority = 'LOWEST'  # after IterationSeedHook, which may build the loader anew

    def __init__(self, policy: BadSamplePolicy = 'raise', scan_seconds: float = 20.0, interval: int = 200) -> None:
        check_policy(policy)
        self.policy, self.scan_seconds, self.interval = policy, scan_seconds, interval
        self._told = 0

    def before_train(self, runner: Runner) -> None:
        """Look at the data of training and validation, and have the loading checked."""
        restart = _built_anew(runner)
        self._prepare(runner, 'train_dataloader', runner.train_dataloader, self.policy)
        if restart:
            iterator: Any = runner.train_loop.dataloader_iterator
            runner.train_loop.dataloader_iterator = type(iterator)(runner.train_dataloader)
        if runner.val_loop is not None:
            self._prepare(runner, 'val_dataloader', runner.val_dataloader, 'raise')

    def before_val(self, runner: Runner) -> None:
        """Have the loading checked, where validation is all that runs."""
        check_loading(runner.val_dataloader.dataset, 'raise', self._list(runner))

    def before_test(self, runner: Runner) -> None:
        """Look at the data of testing, and have the loading checked."""
        self._prepare(runner, 'test_dataloader', runner.test_dataloader, 'raise')

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Tell how many samples were left out, now and then."""
        if self.every_n_train_iters(runner, self.interval):
            self._tell(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Tell how many samples were left out."""
        self._tell(runner)

    def _list(self, runner: Runner) -> BadSampleList:
        return BadSampleList(runner.log_dir)

    def _prepare(self, runner: Runner, split: str, loader: Any, policy: BadSamplePolicy) -> None:
        on_main_process(lambda: self._scan(runner, split, loader.dataset, policy))
        check_loading(loader.dataset, policy, self._list(runner))
        barrier()

    def _scan(self, runner: Runner, split: str, dataset: Any, policy: BadSamplePolicy) -> None:
        """Look for files that are missing or empty, until the time is up."""
        start, seen, bad = time.monotonic(), 0, []
        for path in _files(dataset):
            seen += 1
            problem = absence_problem(path)
            if problem is not None:
                bad.append(BadSample(path, problem))
            if time.monotonic() - start > self.scan_seconds:
                runner.logger.info(
                    f'{split}: looked for {seen} files in {self.scan_seconds:g} s; whether the others are there will '
                    'be seen when they are loaded'
                )
                break
        if not bad:
            return
        shown = '\n  '.join(f'{sample.source} {sample.problem}' for sample in bad[:_SHOWN])
        more = f'\n  ... and {len(bad) - _SHOWN} more' if len(bad) > _SHOWN else ''
        message = f'{len(bad)} of {seen} files of {split} cannot be used:\n  {shown}{more}'
        if policy == 'raise' or len(bad) == seen:
            way_out = "bad_samples='skip' in the config goes on without them." if split == 'train_dataloader' else ''
            raise BadSampleError(f'{message}\nMend or remove them. {way_out if len(bad) < seen else ""}'.rstrip())
        for sample in bad:
            self._list(runner).add(sample)
        runner.logger.warning(message)

    def _tell(self, runner: Runner) -> None:
        if self.policy == 'skip' and runner.rank == 0:
            bad = self._list(runner)
            count = len(bad)
            if count > self._told:
                runner.logger.warning(
                    f'{count} bad samples so far ({count - self._told} more); others take their places. They are '
                    f'listed in {bad.path}'
                )
                self._told = count


def _files(dataset: Any) -> Iterator[str]:
    """Yield the local files of all samples of a data set, or of those inside of a wrapper."""
    for part in leaf_datasets(dataset):
        if not hasattr(part, 'get_data_info'):
            continue
        for index in range(len(part)):
            info = part.get_data_info(index)
            for path in (info.get(key) for key in _FILES):
                if isinstance(path, str) and is_local(path):
                    yield path


def _built_anew(runner: Runner) -> bool:
    """Build the training data's loader anew if its workers run already, with a data set that is not checked yet.

    The original mmengine starts them when it builds a loop that counts iterations. IterationSeedHook, where there is
    one, has built the loader anew by now, and starts the workers later.

    Returns:
        Whether the loop still has to start the new loader's workers.
    """
    loop = runner.train_loop
    iterator = getattr(loop, 'dataloader_iterator', None)
    if getattr(iterator, '_iterator', None) is None or runner.train_dataloader.num_workers == 0:
        return False
    if getattr(iterator, '_dataloader', None) is not loop.dataloader:
        return False
    if not isinstance(runner._train_dataloader, Mapping):
        raise ValueError(
            'BadSamplesHook comes too late: the workers of train_dataloader were started before training. Give '
            'train_dataloader as a dict, not as a DataLoader'
        )
    BaseLoop.__init__(loop, runner, runner._train_dataloader)
    return True
