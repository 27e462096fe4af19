import random
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import Dataset

from mmlocalmamba.engine.hooks import iteration_seed
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
) -> Recorder:
    """Train with batches of 2: an epoch has 5 iterations, so that 2 workers take turns in who gets the first one."""
    model = Recorder()
    loader = dict(
        batch_size=2,
        num_workers=workers,
        persistent_workers=workers > 0,
        dataset=RandomData(),
        sampler=dict(type=sampler or ('DefaultSampler' if by_epoch else 'InfiniteSampler'), shuffle=True),
        collate_fn=dict(type='default_collate'),
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
