import pytest
import torch
from mmengine.model import ExponentialMovingAverage, MomentumAnnealingEMA, StochasticWeightAverage
from mmengine.registry import MODELS
from timm.utils import ModelEmaV3
from torch import nn

from mmlocalmamba.engine.averaging import InitialShare, WarmupEMA


def follow(averaged: nn.Module, values: list[float]) -> float:
    """Average a weight that takes these values one after the other."""
    model = nn.Linear(1, 1, bias=False)
    for value in values:
        nn.init.constant_(model.weight, value)
        averaged.update_parameters(model)
    return averaged.module.weight.item()


@pytest.mark.parametrize(('gamma', 'power'), [(1.0, 3 / 4), (1.0, 2 / 3), (5.0, 1.0)])
def test_the_average_is_that_of_timm(gamma, power) -> None:
    values = torch.randn(40).tolist()
    model = nn.Linear(1, 1, bias=False)
    theirs = ModelEmaV3(model, decay=0.9, use_warmup=True, warmup_gamma=gamma, warmup_power=power)
    for step, value in enumerate(values):
        nn.init.constant_(model.weight, value)
        theirs.update(model, step=step + 1)

    ours = follow(WarmupEMA(nn.Linear(1, 1, bias=False), momentum=0.1, gamma=gamma, power=power), values)

    assert ours == pytest.approx(theirs.module.weight.item(), abs=1e-6)


def test_a_hundred_updates_forget_the_beginning() -> None:
    values = [0.0] * 10 + [1.0] * 90

    assert follow(WarmupEMA(nn.Linear(1, 1, bias=False)), values) > 0.99
    assert follow(ExponentialMovingAverage(nn.Linear(1, 1, bias=False), momentum=0.0001), values) < 0.01


@pytest.mark.parametrize('interval', [1, 3])
@pytest.mark.parametrize('steps', [0, 1, 2, 25])
@pytest.mark.parametrize('kind', [WarmupEMA, ExponentialMovingAverage, MomentumAnnealingEMA, StochasticWeightAverage])
def test_the_share_of_the_first_weights_is_what_is_left_of_them(kind, steps, interval) -> None:
    averaged = kind(nn.Linear(1, 1, bias=False), interval=interval)
    nn.init.constant_(averaged.module.weight, 1.0)

    left = follow(averaged, [1.0, *[0.0] * steps])

    assert InitialShare(averaged)() == pytest.approx(left, abs=1e-4)


def test_the_share_is_carried_on() -> None:
    averaged = ExponentialMovingAverage(nn.Linear(1, 1, bias=False), momentum=0.1)
    share = InitialShare(averaged)
    found = []
    for _ in range(4):
        averaged.update_parameters(nn.Linear(1, 1, bias=False))
        found.append(share())

    assert found == pytest.approx([1, 0.9, 0.81, 0.729])


def test_configs_find_it_and_wrong_settings_are_refused() -> None:
    built = MODELS.build(dict(type='mmlocalmamba.WarmupEMA', model=nn.Linear(1, 1)))
    assert type(built) is WarmupEMA
    with pytest.raises(ValueError, match='want gamma and power above 0, got 0 and 0.75'):
        WarmupEMA(nn.Linear(1, 1), gamma=0)
