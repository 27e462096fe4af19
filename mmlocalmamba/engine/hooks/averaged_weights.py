"""Says how much of the averaged weights is still what the average began with."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner

from mmlocalmamba.registry import HOOKS

from ..averaging import InitialShare, WarmupEMA

HIGHEST_SHARE = 0.05
"""The share of initial weights above which an average says little about the training."""


@HOOKS.register_module()
class AveragedWeightsHook(Hook):
    """Warns when an average that is evaluated or saved is in good part made of the weights that it began with.

    With a decay of 0.9999, as for ImageNet, a run of some hundred iterations would evaluate and save nearly its initial
    weights. It looks at MMEngine's EMAHook, and does nothing without one. Once the share is small, it says so.
    """

    priority = 'VERY_LOW'  # after the hook that averages

    def __init__(self) -> None:
        self._share: InitialShare | None = None
        self._said_at, self._is_small = -1, False

    def before_val_epoch(self, runner: Runner) -> None:
        """Speak before averaged weights are evaluated, in training."""
        self._say(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Speak before averaged weights are saved."""
        self._say(runner)

    def _say(self, runner: Runner) -> None:
        averaged = next((hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)), None)
        if averaged is None or self._is_small or self._said_at == runner.iter or int(averaged.steps) == 0:
            return
        self._said_at = runner.iter
        if self._share is None:
            self._share = InitialShare(averaged)
        share = self._share()
        self._is_small = share <= HIGHEST_SHARE
        text = (
            f'{share:.1%} of the averaged weights are still those that the average began with, after '
            f'{int(averaged.steps)} iterations.'
        )
        if self._is_small:
            runner.logger.info(text)
            return
        text += (
            " They are what is evaluated, and saved under 'state_dict'; the current ones are saved under "
            "'ema_state_dict', and pretrained_weights=raw starts a model from those."
        )
        if not isinstance(averaged, WarmupEMA):
            text += " For short runs, ema_type='mmlocalmamba.WarmupEMA' of the EMAHook forgets the beginning."
        runner.logger.warning(text)
