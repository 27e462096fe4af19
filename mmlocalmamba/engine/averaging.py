"""Averages of a model's weights: one that forgets where training began, and how much of that is left in any."""

from __future__ import annotations

import torch
from mmengine.model import BaseAveragedModel, ExponentialMovingAverage
from torch import Tensor, nn

from mmlocalmamba.registry import MODELS


@MODELS.register_module()
class WarmupEMA(ExponentialMovingAverage):
    """Exponential moving average whose decay rises from 0, by the formula of timm's ``ModelEmaV3``.

    Update t = 1, 2, ... has the decay ``min(1 - momentum, 1 - (1 + t / gamma) ** -power)``. A fixed decay of 0.9999
    leaves 99 % of the weights at the end of a run of 100 updates as they were at its start. This one leaves nothing.

    With ``gamma=1`` the decay reaches 0.99, 0.999 and 0.9999 after 463, 9,999 and 215,442 updates at ``power=3/4``, and
    after 999, 31,622 and 999,999 at ``power=2/3``, which is timm's default.

    Args:
        model: The model to average.
        momentum: 1 less the highest decay, as MMEngine counts it.
        gamma: Updates after which the rise slows down.
        power: Steepness of the rise; 1 gives the plain mean of all weights at first.
        interval: Iterations between two updates.
        device: Where the average is kept. Default: with the model.
        update_buffers: Whether buffers are averaged too, rather than copied.

    Raises:
        ValueError: If ``gamma`` or ``power`` is not above 0.
    """

    def __init__(
        self,
        model: nn.Module,
        momentum: float = 0.0001,
        gamma: float = 1.0,
        power: float = 3 / 4,
        interval: int = 1,
        device: torch.device | None = None,
        update_buffers: bool = False,
    ) -> None:
        if gamma <= 0 or power <= 0:
            raise ValueError(f'want gamma and power above 0, got {gamma} and {power}')
        super().__init__(model, momentum, interval, device, update_buffers)
        self.gamma, self.power = gamma, power

    def avg_func(self, averaged_param: Tensor, source_param: Tensor, steps: int | Tensor) -> None:
        """Move the averaged tensor towards the current one, in place."""
        update = int(steps) // self.interval
        averaged_param.lerp_(source_param, max(self.momentum, (1 + update / self.gamma) ** -self.power))


class InitialShare:
    """Tells how much of an average are still the weights that it began with: the product of all decays.

    Args:
        averaged: The average; of any class whose update is linear, as those of MMEngine are.
    """

    NEGLIGIBLE = 1e-4
    """Below this it is given as 0, and no longer computed."""

    def __init__(self, averaged: BaseAveragedModel) -> None:
        self._averaged = averaged
        self._share = torch.ones((), dtype=torch.float64)
        self._next = averaged.interval  # the first step copies the weights

    def __call__(self) -> float:
        """Give the share as it is now, between 0 and 1."""
        counter = self._averaged.steps
        steps, nothing = int(counter), torch.zeros_like(self._share)
        try:
            while self._next < steps and self._share > self.NEGLIGIBLE:
                counter.fill_(self._next)  # which some averages read instead of the argument
                # An average of 1 for the first weights and 0 for all others.
                self._averaged.avg_func(self._share, nothing, self._next)
                self._next += self._averaged.interval
        finally:
            counter.fill_(steps)
        return float(self._share) if self._share > self.NEGLIGIBLE else 0.0
