"""Makes random numbers a function of the iteration, so that a resumed run goes on as if it had never stopped."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from torch.utils.data import IterableDataset, get_worker_info

from mmlocalmamba.registry import HOOKS

MODEL, DATA = 0, 1
"""What random numbers are for: each has its own."""


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Seeds Python's, NumPy's and torch's generators anew for every iteration and for every batch of data.

    MMEngine restores weights, optimizer, schedules and the order of the samples, but no generator: after resuming,
    stochastic depth, sampled regions, Mixup, flips and crops would be others than those of a run that never stopped.
    Here they follow from the run's seed, the process and the number of the iteration, in the main process and in the
    data loader's workers, so there is nothing to restore. Runs that use the same seed still repeat each other.

    It holds where MMEngine itself goes on with the right batch: at the end of an epoch in runs that count epochs, at
    any iteration in those that count iterations. Every kind of data set with numbered samples is covered, wrappers
    included. Where the loading cannot be seeded, the log says why, and only what the model draws is seeded.
    """

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self._fetch: SeededFetch | None = None
        self._restart_workers = False

    def before_train(self, runner: Runner) -> None:
        """Take over the loading of batches."""
        problem = _problem(runner)
        if problem is not None:
            runner.logger.warning(
                f'IterationSeedHook cannot seed the loading of the training data: {problem}. A resumed run draws other '
                'augmentations than one that never stopped'
            )
            return
        self._restart_workers = _has_workers(runner)
        if self._restart_workers:
            # Builds the loader again, as the loop itself did: a new sampler, which starts at its beginning.
            BaseLoop.__init__(runner.train_loop, runner, runner._train_dataloader)
        dataset = runner.train_dataloader.dataset
        self._fetch = SeededFetch(dataset, int(runner.seed), get_rank())
        # torch's loader prefers this method, where a data set has it, to one call per sample.
        vars(dataset)['__getitems__'] = self._fetch

    def before_train_epoch(self, runner: Runner) -> None:
        """Tell the loading which iteration its next batch is for; runs that count iterations are one epoch."""
        if self._fetch is None:
            return
        self._fetch.restart(0 if _loads_what_it_skips(runner) else runner.iter)
        iterator = getattr(runner.train_loop, 'dataloader_iterator', None)
        if self._restart_workers and iterator is not None:
            runner.train_loop.dataloader_iterator = type(iterator)(runner.train_dataloader)
            self._restart_workers = False

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed what the model draws."""
        seed_all(int(runner.seed), get_rank(), runner.iter, MODEL)

    def after_train(self, runner: Runner) -> None:
        """Give the loading back."""
        if self._fetch is not None:
            del vars(self._fetch.dataset)['__getitems__']
            self._fetch = None


def _problem(runner: Runner) -> str | None:
    """Say why the loading cannot be seeded; None if it can."""
    loader = runner.train_dataloader
    dataset = loader.dataset
    name = type(dataset).__name__
    if isinstance(dataset, IterableDataset):
        return f'{name} is an IterableDataset, whose samples have no numbers'
    if loader.batch_sampler is None:
        return 'batch_size=None leaves the forming of batches to the data set; give a batch_size'
    if not hasattr(dataset, '__dict__'):
        return f'a {name} takes no attributes; put it into a torch.utils.data.Dataset'
    if _has_workers(runner) and not isinstance(runner._train_dataloader, Mapping):
        return 'its workers were started before training; give train_dataloader as a dict, not as a DataLoader'
    return None


def _has_workers(runner: Runner) -> bool:
    """Tell whether the loader's workers run already: they would not see a data set that is changed now.

    The original mmengine starts them when it builds a loop that counts iterations, and ``persistent_workers`` are those
    of an earlier training.
    """
    owners = (runner.train_dataloader, getattr(runner.train_loop, 'dataloader_iterator', None))
    return runner.train_dataloader.num_workers > 0 and any(getattr(owner, '_iterator', None) for owner in owners)


def _loads_what_it_skips(runner: Runner) -> bool:
    """Tell whether a resumed run gets to its next batch by loading all those before it."""
    iterator = getattr(runner.train_loop, 'dataloader_iterator', None)
    if iterator is None:  # it counts epochs, and skips none
        return False
    if not hasattr(iterator, 'skip_iter'):  # the original mmengine
        return True
    loader = runner.train_dataloader
    return loader.num_workers > 0 and not hasattr(loader.sampler, 'skip')


class SeededFetch:
    """Loads a batch as the data loader would, after seeding for it.

    It counts the batches of its own process: worker i of n gets every n-th, from the i-th on.

    Args:
        dataset: Where samples come from.
        seed: Seed of the run.
        rank: Number of the training process.
    """

    def __init__(self, dataset: Any, seed: int, rank: int) -> None:
        self.dataset, self.seed, self.rank = dataset, seed, rank
        # First iteration, and how often it was set: shared with workers that live on from epoch to epoch.
        self._start = torch.zeros(2, dtype=torch.int64).share_memory_()
        self._seen = self._count = 0

    def restart(self, iteration: int) -> None:
        """Let the next batch be that of an iteration."""
        self._start[0] = iteration
        self._start[1] += 1

    def __call__(self, indices: Sequence[int]) -> list[Any]:
        """Load the samples of a batch."""
        first, times = self._start.tolist()
        if times != self._seen:
            self._seen, self._count = times, 0
        worker = get_worker_info()
        index, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        seed_all(self.seed, self.rank, first + index + self._count * workers, DATA)
        self._count += 1
        own = getattr(type(self.dataset), '__getitems__', None)
        return [self.dataset[i] for i in indices] if own is None else own(self.dataset, indices)


def seed_all(*key: int) -> None:
    """Seed Python's, NumPy's and torch's generators with what any whole numbers >= 0 mix to."""
    python, numpy, *words = np.random.SeedSequence(key).generate_state(4).tolist()
    random.seed(python)
    np.random.seed(numpy)
    torch.manual_seed(words[0] << 32 | words[1])
