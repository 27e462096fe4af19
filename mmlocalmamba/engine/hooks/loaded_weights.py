"""Accounts for every tensor of a model when a checkpoint is loaded into it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from mmlocalmamba.models.weights.files import find_state_dict
from mmlocalmamba.models.weights.values import check_weights
from mmlocalmamba.registry import HOOKS

_SHOWN = 12
"""Names in an error; the log has all of them."""


@HOOKS.register_module()
class LoadedWeightsHook(Hook):
    """Says which of a model's tensors a checkpoint has filled: MMEngine loads without ``strict``, whatever fits.

    It watches which tensors are written to. So it is right for checkpoints whose names are converted while they are
    loaded, and for models inside a wrapper or a test-time augmentation. Counters of batch norms
    (``num_batches_tracked``) are left out, as MMEngine does.

    Args:
        complete: Whether the checkpoint must fill the whole model, as testing and resuming need. Otherwise, heads for
            other classes may keep their initial values: the log names them.

    Raises:
        ValueError: On loading, if there are tensors without names, of dtypes that weights do not have, or with NaN or
            infinity. Before training, validation or testing, if no tensor was loaded, or not all of those that must be.
            The message names the tensors, and the shapes that differ.
    """

    def __init__(self, complete: bool) -> None:
        self.complete = complete
        self._versions: dict[str, int] | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Remember what the model and the checkpoint look like; MMEngine copies the tensors next.

        A file that has its tensors under 'model' gets them under 'state_dict', where MMEngine looks. What cannot be
        weights is an error.
        """
        state = find_state_dict(checkpoint)
        if state is not checkpoint:
            checkpoint['state_dict'] = state
        own = _tensors(runner.model)
        check_weights(state, _source(runner), own)
        self._shapes = {
            name.removeprefix('module.'): tuple(value.shape)
            for name, value in state.items()
            if isinstance(value, Tensor)
        }
        self._versions = {name: tensor._version for name, tensor in own.items()}

    def before_train(self, runner: Runner) -> None:
        """Account for what training starts from."""
        self._account(runner)

    def before_val(self, runner: Runner) -> None:
        """Account for what is validated."""
        self._account(runner)

    def before_test(self, runner: Runner) -> None:
        """Account for what is tested."""
        self._account(runner)

    def _account(self, runner: Runner) -> None:
        if self._versions is None:  # nothing was loaded, or it is accounted for
            return
        versions, self._versions = self._versions, None
        tensors = _tensors(runner.model)
        # PyTorch counts the writes to a tensor, for autograd.
        left = [name for name, tensor in tensors.items() if tensor._version == versions[name]]
        source = _source(runner)
        if len(left) == len(tensors):
            raise ValueError(
                f'no tensor of {source} fits this model: it has names such as {_listing(self._shapes)}, the model '
                f'{_listing(tensors)}. Give a checkpoint of this model; weights for the backbone alone are given by '
                '--cfg-options pretrained=<file or URL>'
            )
        if not left:
            runner.logger.info(f'All {len(tensors)} tensors of the model were loaded from {source}.')
            return
        if self.complete:
            raise ValueError(
                f'{source} does not hold this whole model: {len(left)} of {len(tensors)} tensors would keep random '
                f'values ({_listing(self._describe(name, tensors[name]) for name in left)}). Give the config that the '
                'checkpoint was made with, or another checkpoint'
            )
        names = ', '.join(self._describe(name, tensors[name]) for name in left)
        runner.logger.log(
            logging.WARNING,
            f'{len(tensors) - len(left)} of {len(tensors)} tensors of the model were loaded from {source}. The others '
            f'keep their initial values: {names}',
        )

    def _describe(self, name: str, tensor: Tensor) -> str:
        shape = self._shapes.get(name)
        if shape is None or shape == tuple(tensor.shape):
            return name
        return f'{name}, which has shape {shape} in the checkpoint and {tuple(tensor.shape)} in the model'


def _source(runner: Runner) -> str:
    return runner.cfg.get('load_from') or 'the last checkpoint'


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Give the tensors of a model's checkpoint by name, without what wraps the model."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.get_submodule('module')
    state = model.state_dict(keep_vars=True)
    return {
        name: value
        for name, value in state.items()
        if isinstance(value, Tensor) and not name.endswith('num_batches_tracked')
    }


def _listing(names: Iterable[str]) -> str:
    names = list(names)
    return ', '.join(names[:_SHOWN]) + (f', and {len(names) - _SHOWN} more' if len(names) > _SHOWN else '')
