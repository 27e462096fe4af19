import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, ClassBalancedDataset, ConcatDataset, RepeatDataset
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from mmlocalmamba.engine.hooks import IterationSeedHook, iteration_seed
from mmlocalmamba.engine.hooks.iteration_seed import seed_all


class RandomData(Dataset):
    """Samples are their number and what Python, NumPy and torch draw."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {'inputs': torch.tensor([index, random.random(), np.random.random(), torch.rand(()).item()])}


class Recorder(BaseModel):
    """Keeps what it gets to see, and what it draws itself."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: list[list[float]] = []

    def forward(self, inputs: Tensor, mode: str) -> dict[str, Tensor]:
        self.seen.append([*inputs.flatten().tolist(), random.random(), np.random.random(), torch.rand(()).item()])
        return {'loss': self.weight * inputs.mean()}


def train(
    work_dir: Path,
    by_epoch: bool,
    end: int,
    workers: int,
    hook: bool = True,
    resume: bool = False,
    sampler: str | None = None,
    dataset: Any = None,
    persistent: bool = True,
    **settings: Any,
) -> Recorder:
    """Train with batches of 2: an epoch has 5 iterations, so that 2 workers take turns in who gets the first one."""
    model = Recorder()
    loader = dict(
        batch_size=2,
        num_workers=workers,
        persistent_workers=persistent and workers > 0,
        dataset=dataset or RandomData(),
        sampler=dict(type=sampler or ('DefaultSampler' if by_epoch else 'InfiniteSampler'), shuffle=True),
        collate_fn=dict(type='default_collate'),
        **settings,
    )
    runner = Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=loader,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        train_cfg=dict(by_epoch=True, max_epochs=end) if by_epoch else dict(by_epoch=False, max_iters=end),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=by_epoch, interval=1)),
        custom_hooks=[dict(type='mmlocalmamba.IterationSeedHook')] if hook else [],
        randomness=dict(seed=3),
        resume=resume,
        experiment_name=f'{work_dir.name} {end} {resume}',
        log_processor=dict(by_epoch=by_epoch),
    )
    runner.train()
    # Let go of the workers: those that the garbage collector finds take five seconds each to end.
    runner.train_dataloader._iterator = runner.train_loop.dataloader_iterator = None
    return model


def interrupted(work_dir: Path, by_epoch: bool, stop: int, end: int, workers: int, **kwargs) -> list[list[float]]:
    before = train(work_dir, by_epoch, stop, workers, **kwargs)
    return before.seen + train(work_dir, by_epoch, end, workers, resume=True, **kwargs).seen


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize(('by_epoch', 'stop', 'end'), [(True, 1, 3), (False, 3, 7)])
def test_a_resumed_run_draws_what_it_would_have_drawn(by_epoch, stop, end, workers, tmp_path) -> None:
    whole = train(tmp_path / 'whole', by_epoch, end, workers).seen

    assert len(whole) == (15 if by_epoch else 7)
    assert interrupted(tmp_path / 'stopped', by_epoch, stop, end, workers) == whole


@pytest.mark.parametrize('workers', [0, 2])
def test_a_resumed_run_may_have_to_load_what_it_skips(workers, tmp_path) -> None:
    whole = train(tmp_path / 'whole', False, 5, workers, sampler='DefaultSampler').seen

    assert interrupted(tmp_path / 'stopped', False, 3, 5, workers, sampler='DefaultSampler') == whole


class Listed(BaseDataset):
    """The same samples, in a data set of MMEngine's kind, which its wrappers want."""

    METAINFO: ClassVar = dict(classes=('a', 'b'))

    def load_data_list(self) -> list[dict]:
        return [dict(inputs=index, img_path='') for index in range(10)]

    def prepare_data(self, index: int) -> dict[str, Tensor]:
        return RandomData()[index]

    def get_cat_ids(self, index: int) -> list[int]:
        return [int(index > 7)]


def repeated() -> Any:
    return RepeatDataset(Listed(), times=2)


def balanced() -> Any:
    return ClassBalancedDataset(Listed(), oversample_thr=0.6)


def concatenated() -> Any:
    return ConcatDataset([Listed(), Listed()])


def mixed() -> Any:
    from mmdet.datasets import MultiImageMixDataset

    return MultiImageMixDataset(Listed(), [dict(type=Mix)])


def mixed_masks() -> Any:
    from mmseg.datasets import MultiImageMixDataset

    return MultiImageMixDataset(dict(type=Listed), [dict(type=Mix)])


def nested() -> Any:
    balanced = dict(type=ClassBalancedDataset, dataset=dict(type=Listed), oversample_thr=0.6)
    return RepeatDataset(dict(type=ConcatDataset, datasets=[dict(type=RepeatDataset, dataset=balanced, times=2)]), 2)


class Mix:
    """Adds another sample, which is drawn."""

    def __call__(self, results: dict) -> dict:
        return {'inputs': results['inputs'] + results['mix_results'][0]['inputs']}

    def get_indexes(self, dataset: Any) -> list[int]:
        return [np.random.randint(len(dataset))]

    get_indices = get_indexes  # MMSegmentation's name


WRAPPERS = {
    'repeated': repeated,
    'balanced': balanced,
    'concatenated': concatenated,
    'mixed': mixed,
    'mixed masks': mixed_masks,
    'nested': nested,
}


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('by_epoch', [True, False])
@pytest.mark.parametrize('wrap', WRAPPERS)
def test_wrapped_data_sets_are_seeded_too(wrap, by_epoch, workers, tmp_path) -> None:
    stop, end = (1, 2) if by_epoch else (3, 5)

    def run(name: str, end: int, resume: bool = False) -> list[list[float]]:
        return train(tmp_path / name, by_epoch, end, workers, resume=resume, dataset=WRAPPERS[wrap]()).seen

    whole = run('whole', end)
    assert run('stopped', stop) + run('stopped', end, resume=True) == whole


def test_sliced_data_sets_are_seeded_too(tmp_path) -> None:
    first, again = (train(tmp_path / name, True, 1, 0, num_batch_per_epoch=3).seen for name in ('first', 'again'))

    assert first == again
    assert len(first) == 3


class EagerIterator:
    """Starts the workers when the loop is built, as that of the original mmengine does."""

    def __init__(self, loader: DataLoader) -> None:
        self._iterator = iter(loader)

    def __next__(self) -> Any:
        return next(self._iterator)


@pytest.mark.parametrize('persistent', [True, False])
def test_workers_that_were_started_before_training_are_seeded_too(persistent, tmp_path, monkeypatch) -> None:
    lazy = train(tmp_path / 'lazy', False, 6, 0).seen
    monkeypatch.setattr('mmengine.runner.loops._InfiniteDataloaderIterator', EagerIterator)

    assert train(tmp_path / 'none', False, 6, 0).seen == lazy
    assert train(tmp_path / 'two', False, 6, 2, persistent=persistent).seen == lazy


class Endless(IterableDataset):
    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        while True:
            yield RandomData()[0]


class Slots:
    __slots__ = ()
    __len__, __getitem__ = RandomData.__len__, RandomData.__getitem__


def started_loader() -> DataLoader:
    loader = DataLoader(RandomData(), batch_size=1, num_workers=1, persistent_workers=True)
    next(iter(loader))
    return loader


@pytest.mark.parametrize(
    ('loader', 'reason'),
    [
        (lambda: DataLoader(Endless(), batch_size=1), 'Endless is an IterableDataset, whose samples have no numbers'),
        (lambda: DataLoader(RandomData(), batch_size=None), 'batch_size=None leaves the forming of batches'),
        (lambda: DataLoader(Slots(), batch_size=1), 'a Slots takes no attributes'),
        (started_loader, 'its workers were started before training; give train_dataloader as a dict'),
    ],
)
def test_what_cannot_be_seeded_is_named_in_the_log(loader, reason) -> None:
    given, messages = loader(), []
    runner = SimpleNamespace(
        train_dataloader=given,
        _train_dataloader=given,
        train_loop=SimpleNamespace(),
        logger=SimpleNamespace(warning=messages.append),
    )
    hook = IterationSeedHook()
    hook.before_train(runner)
    hook.before_train_epoch(runner)
    hook.after_train(runner)

    (message,) = messages
    assert f'cannot seed the loading of the training data: {reason}' in message


def test_it_would_not_without_the_hook(tmp_path) -> None:
    whole = train(tmp_path / 'whole', True, 2, 0, hook=False).seen

    assert interrupted(tmp_path / 'stopped', True, 1, 2, 0, hook=False) != whole


def test_nothing_is_drawn_twice(tmp_path) -> None:
    seen = train(tmp_path, True, 3, 2).seen
    drawn = [value for batch in seen for i, value in enumerate(batch) if i not in (0, 4)]

    assert len(set(drawn)) == len(drawn) == 15 * 9


def test_the_number_of_workers_does_not_matter(tmp_path) -> None:
    assert train(tmp_path / 'none', True, 2, 0).seen == train(tmp_path / 'two', True, 2, 2).seen


def test_processes_draw_different_numbers(tmp_path, monkeypatch) -> None:
    first = train(tmp_path / 'first', True, 1, 0).seen
    monkeypatch.setattr(iteration_seed, 'get_rank', lambda: 1)
    second = train(tmp_path / 'second', True, 1, 0).seen

    for a, b in zip(first, second, strict=True):
        assert (a[0], a[4]) == (b[0], b[4])
        assert all(x != y for i, (x, y) in enumerate(zip(a, b, strict=True)) if i not in (0, 4))


def test_loading_is_given_back(tmp_path) -> None:
    class Batched(RandomData):
        calls = 0

        def __getitems__(self, indices: list[int]) -> list[dict[str, Tensor]]:
            Batched.calls += 1
            return [self[i] for i in indices]

    for dataset in (RandomData(), Batched()):
        fetch = iteration_seed.SeededFetch(dataset, 0, 0)
        fetch.restart(4)
        assert len(fetch([1, 2])) == 2
    assert Batched.calls == 1

    runner = Runner(
        model=Recorder(),
        work_dir=str(tmp_path),
        train_dataloader=dict(
            batch_size=1,
            dataset=Batched(),
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
        ),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        custom_hooks=[dict(type='mmlocalmamba.IterationSeedHook')],
    )
    runner.train()
    assert Batched.calls == 11
    assert '__getitems__' not in vars(runner.train_dataloader.dataset)


def test_seeds_mix_all_numbers() -> None:
    def draw(*key: int) -> tuple[float, float, float]:
        seed_all(*key)
        return random.random(), np.random.random(), torch.rand(()).item()

    keys = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    draws = [draw(*key) for key in keys]

    assert [draw(*key) for key in keys] == draws
    for column in zip(*draws, strict=True):
        assert len(set(column)) == len(keys)
