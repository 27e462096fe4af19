import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmlocalmamba.engine.hooks import AveragedWeightsHook


class Line(BaseModel):
    """One weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs: list, mode: str) -> dict:
        return {'loss': self.weight.sum()}


@pytest.fixture
def log(tmp_path):
    """Train for ten iterations; returns the lines of the log about the average."""

    def train(**ema) -> list[str]:
        runner = Runner(
            Line(),
            str(tmp_path),
            train_dataloader=DataLoader([dict(inputs=torch.ones(1))] * 10),
            train_cfg=dict(by_epoch=True, max_epochs=2),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            custom_hooks=[dict(type='EMAHook', **ema)] if ema else [],
            experiment_name=str(len(list(tmp_path.iterdir()))),
        )
        runner.register_hook(AveragedWeightsHook())
        runner.train()
        (file,) = (tmp_path / runner.timestamp).glob('*.log')
        return [line for line in file.read_text().splitlines() if 'that the average began with' in line]

    return train


def test_an_average_of_mostly_the_beginning_is_a_warning(log) -> None:
    first, second = log(ema_type='ExponentialMovingAverage', momentum=0.0001)

    assert 'WARNING' in first
    assert '99.9% of the averaged weights are still those' in first
    assert 'after 10 iterations' in first
    assert '99.8% of the averaged weights' in second
    assert 'pretrained_weights=raw' in second


def test_an_average_that_has_forgotten_it_says_so_once(log) -> None:
    (line,) = log(ema_type='mmlocalmamba.WarmupEMA')

    assert 'INFO' in line
    assert '3.1% of the averaged weights' in line


def test_no_average_says_nothing(log) -> None:
    assert log() == []
