from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn

from mmlocalmamba.engine import NonFiniteHook
from mmlocalmamba.registry import HOOKS


class Exploding(nn.Module):
    """Passes its input on, divided by zero whenever the random numbers or the input say so."""

    def __init__(self, chance: float) -> None:
        super().__init__()
        self.chance = chance

    def forward(self, x: Tensor) -> Tensor:
        return x / 0 if torch.rand(()) < self.chance else x


class Model(BaseModel):
    def __init__(self, chance: float = 0.0, bad_loss: bool = False) -> None:
        super().__init__()
        self.stem = nn.Linear(2, 2)
        self.body = nn.Sequential(nn.Linear(2, 2), Exploding(chance), nn.Linear(2, 2))
        self.bad_loss = bad_loss

    def forward(self, inputs: Tensor, mode: str) -> dict[str, Tensor]:
        out = self.body(self.stem(inputs)).abs().mean()
        return {'loss_a': out, 'loss_b': torch.log(out * 0 - 1) if self.bad_loss else out}


def train(model: BaseModel, work_dir: Path, data: Tensor | None = None, hook: dict | None = None) -> Runner:
    data = torch.rand(8, 2) if data is None else data
    runner = Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader={
            'batch_size': 1,
            'dataset': [(row,) for row in data],
            'sampler': {'type': 'DefaultSampler', 'shuffle': False},
            'collate_fn': {'type': 'default_collate'},
        },
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.01}},
        train_cfg={'by_epoch': True, 'max_epochs': 1},
        custom_hooks=[hook or {'type': 'mmlocalmamba.NonFiniteHook'}],
        experiment_name=work_dir.name,
    )
    runner.train()
    return runner


def test_names_the_first_module(tmp_path) -> None:
    with pytest.raises(FloatingPointError, match=r'body\.1 \(Exploding\), from finite inputs') as caught:
        train(Model(chance=1.0), tmp_path)
    assert 'iteration 0: loss_a, loss_b is not finite' in str(caught.value)


def test_replays_the_random_numbers(tmp_path) -> None:
    """A failure that happens by chance happens again when it is looked into."""
    with pytest.raises(FloatingPointError, match=r'body\.1 \(Exploding\)'):
        train(Model(chance=0.2), tmp_path, torch.rand(64, 2))


def test_saves_batch_and_weights_of_before_the_update(tmp_path) -> None:
    data = torch.rand(8, 2)
    data[3, 0] = torch.nan
    model = Model()

    with pytest.raises(FloatingPointError, match='input of the model'):
        train(model, tmp_path, data)

    saved = torch.load(tmp_path / 'non_finite_iter_3_rank0.pth', weights_only=True)
    torch.testing.assert_close(saved['args'][0], data[3:4], equal_nan=True)
    assert all(value.isfinite().all() for value in saved['state_dict'].values())
    assert torch.equal(saved['state_dict']['stem.weight'], model.stem.weight)


def test_names_a_broken_parameter(tmp_path) -> None:
    model = Model()
    nn.init.constant_(model.body[2].weight, torch.inf)

    with pytest.raises(FloatingPointError, match=r'parameter body\.2\.weight'):
        train(model, tmp_path)


def test_names_the_loss_alone(tmp_path) -> None:
    with pytest.raises(FloatingPointError, match='iteration 0: loss_b is not finite. Every module has a finite output'):
        train(Model(bad_loss=True), tmp_path)


def test_leaves_a_healthy_run_alone(tmp_path) -> None:
    torch.manual_seed(1)
    watched = train(Model(), tmp_path / 'watched', torch.ones(8, 2)).model
    torch.manual_seed(1)
    alone = train(Model(), tmp_path / 'alone', torch.ones(8, 2), hook={'type': 'EmptyCacheHook'}).model

    for ours, theirs in zip(watched.parameters(), alone.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert not watched._forward_hooks
    assert not watched._forward_pre_hooks
    assert not list(tmp_path.glob('**/non_finite*'))


def test_interval_skips_iterations(tmp_path) -> None:
    data = torch.rand(8, 2)
    data[3, 0] = torch.nan

    with pytest.raises(FloatingPointError, match='iteration 4: .*parameter'):
        train(Model(), tmp_path, data, hook={'type': 'mmlocalmamba.NonFiniteHook', 'interval': 4})


@pytest.mark.parametrize('interval', [0, -1, 1.5])
def test_bad_interval_is_refused(interval) -> None:
    with pytest.raises(ValueError, match='interval'):
        NonFiniteHook(interval)


def test_is_registered() -> None:
    assert HOOKS.get('NonFiniteHook') is NonFiniteHook
