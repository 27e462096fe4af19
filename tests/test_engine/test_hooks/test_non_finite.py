from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from mmlocalmamba.engine import NonFiniteHook
from mmlocalmamba.engine.hooks import non_finite
from mmlocalmamba.engine.hooks.non_finite import find_non_finite
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


def train(
    model: BaseModel,
    work_dir: Path,
    data: Tensor | None = None,
    hook: dict | None = None,
    optim_wrapper: OptimWrapper | None = None,
) -> Runner:
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
        optim_wrapper=optim_wrapper or {'optimizer': {'type': 'SGD', 'lr': 0.01}},
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


class MetricOfNaN(Model):
    """Logs an accuracy of no samples, as a region head does whose batch has no positive ones."""

    def forward(self, inputs: Tensor, mode: str) -> dict[str, Tensor]:
        return {**super().forward(inputs, mode), 'acc': torch.tensor(torch.nan)}


def test_metrics_that_are_not_finite_are_no_reason_to_stop(tmp_path) -> None:
    assert train(MetricOfNaN(), tmp_path).iter == 8


def test_a_list_of_losses_is_looked_at(tmp_path) -> None:
    class Levels(Model):
        def forward(self, inputs: Tensor, mode: str) -> dict[str, list[Tensor]]:
            loss = super().forward(inputs, mode)['loss_a']
            return {'loss_rpn': [loss, loss / 0]}

    with pytest.raises(FloatingPointError, match='iteration 0: loss_rpn is not finite'):
        train(Levels(), tmp_path)


class Float16(AmpOptimWrapper):
    """The mixed precision of MMEngine, with PyTorch's loss scaler, on the CPU."""

    def __init__(self, optimizer: torch.optim.Optimizer, dtype: torch.dtype | None = None) -> None:
        OptimWrapper.__init__(self, optimizer)
        self.loss_scaler = torch.amp.GradScaler('cpu')
        self.cast_dtype, self._scale_update_param = dtype, None

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        yield


def train_in_float16(
    model: Model, work_dir: Path, data: Tensor, dtype: torch.dtype | None = None, **settings: int
) -> Runner:
    wrapper = Float16(torch.optim.SGD(model.parameters(), lr=0.01), dtype)
    return train(model, work_dir, data, {'type': 'mmlocalmamba.NonFiniteHook', **settings}, wrapper)


def data_with_overflows(*places: int) -> Tensor:
    data = torch.rand(12, 2)
    data[list(places)] = torch.inf
    return data


def test_the_loss_scaler_may_skip_an_overflow(tmp_path) -> None:
    model = Model()
    data = data_with_overflows(2, 3, 4, 5, 7, 8, 9, 10)  # 4 in a row, twice

    runner = train_in_float16(model, tmp_path, data)

    assert runner.iter == 12
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert not list(tmp_path.glob('**/non_finite*'))
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'iteration 2: loss_a, loss_b is not finite. The float16 loss scaler skips this step (1 in a row' in log
    assert '(4 in a row, training stops at 5)' in log


@pytest.mark.parametrize(('settings', 'stop'), [({}, 6), ({'patience': 2}, 3), ({'patience': 1}, 2)])
def test_too_many_overflows_in_a_row_stop_training(settings, stop, tmp_path) -> None:
    with pytest.raises(FloatingPointError, match=f'iteration {stop}: .*input of the model'):
        train_in_float16(Model(), tmp_path, data_with_overflows(*range(2, 12)), **settings)


def test_bfloat16_stops_at_once(tmp_path) -> None:
    with pytest.raises(FloatingPointError, match='iteration 2: '):
        train_in_float16(Model(), tmp_path, data_with_overflows(2), torch.bfloat16)


def test_a_broken_parameter_stops_float16_at_once(tmp_path) -> None:
    model = Model()
    nn.init.constant_(model.body[2].weight, torch.nan)

    with pytest.raises(FloatingPointError, match=r'iteration 0: .*parameter body\.2\.weight'):
        train_in_float16(model, tmp_path, torch.rand(12, 2))


class Twice(nn.Module):
    """Doubles a batch of one, of which batch norm takes no statistics."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, 2 * x])


def test_broken_statistics_of_a_batch_norm_stop_float16_at_once(tmp_path) -> None:
    model = Model()
    model.stem = nn.Sequential(Twice(), nn.BatchNorm1d(2))

    with pytest.raises(FloatingPointError, match='iteration 2: '):
        train_in_float16(model, tmp_path, data_with_overflows(2))


def test_all_processes_stop_for_a_loss_of_one(tmp_path, monkeypatch) -> None:
    """Another process has an infinite loss at iteration 3."""
    runners: list[Runner] = []
    before_train = NonFiniteHook.before_train

    def remember(self: NonFiniteHook, runner: Runner) -> None:
        runners.append(runner)
        before_train(self, runner)

    def add_others(total: Tensor) -> None:
        if runners[-1].iter == 3:
            total += torch.inf

    monkeypatch.setattr(NonFiniteHook, 'before_train', remember)
    monkeypatch.setattr(non_finite, 'all_reduce', add_others)
    with pytest.raises(FloatingPointError, match='iteration 3: a loss of another process is not finite'):
        train(Model(), tmp_path)


@pytest.mark.parametrize('bad', ['input', 'parameter'])
def test_every_process_runs_the_forward_again(bad) -> None:
    """Or SyncBN would leave a process to wait for one whose input or weights are broken."""
    model, data = Model(), torch.rand(1, 2)
    (data if bad == 'input' else model.stem.weight.data)[0, 0] = torch.nan
    calls = []
    model.body.register_forward_hook(lambda *_: calls.append(1))

    assert bad in find_non_finite(model, (data,), {'mode': 'loss'})
    assert calls == [1]


@pytest.mark.parametrize('value', [0, -1, 1.5])
@pytest.mark.parametrize('name', ['interval', 'patience'])
def test_bad_numbers_of_iterations_are_refused(name, value) -> None:
    with pytest.raises(ValueError, match=f'{name} must be a positive whole number'):
        NonFiniteHook(**{name: value})


def test_is_registered() -> None:
    assert HOOKS.get('NonFiniteHook') is NonFiniteHook
