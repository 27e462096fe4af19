"""Stops training at the first loss that is NaN or infinite, and names the module that made it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from mmlocalmamba.registry import HOOKS


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Looks at the losses before they reach the optimizer; when one is not finite, finds out where it came from.

    The forward pass is run again on the same batch with the same random numbers, and every module's output is
    looked at. The batch, the weights from before the update and the losses are saved to
    ``<work_dir>/non_finite_iter_<iteration>_rank<rank>.pth``, and training stops.

    It costs one small reduction and one device synchronisation per checked iteration, and memory only when it strikes.
    In a distributed run all processes stop together.

    Args:
        interval: Check every so many iterations. Default: 1.

    Raises:
        FloatingPointError: From within training, when a loss is not finite.
        ValueError: If ``interval`` is not a positive whole number.
    """

    priority = 'VERY_LOW'

    def __init__(self, interval: int = 1) -> None:
        if not isinstance(interval, int) or interval < 1:
            raise ValueError(f'interval must be a positive whole number of iterations, got {interval!r}')
        self.interval = interval
        self._handles: list[Any] = []
        self._random_state: dict[str, Any] | None = None
        self._runner: Runner | None = None

    def before_train(self, runner: Runner) -> None:
        """Start to look at the model's losses."""
        self._runner = runner
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._handles = [
            model.register_forward_pre_hook(self._remember_random_state, with_kwargs=True),
            model.register_forward_hook(self._check_losses, with_kwargs=True),
        ]

    def after_train(self, runner: Runner) -> None:
        """Stop looking."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._runner = [], None

    def _is_due(self, kwargs: dict[str, Any]) -> bool:
        return kwargs.get('mode') == 'loss' and self._runner is not None and self._runner.iter % self.interval == 0

    def _remember_random_state(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._is_due(kwargs):
            self._random_state = _random_state()

    def _check_losses(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], losses: Any) -> None:
        runner, state = self._runner, self._random_state
        if runner is None or state is None or not self._is_due(kwargs) or not isinstance(losses, dict):
            return
        total = sum(value.detach().float().sum() for value in _tensors(losses))
        if not isinstance(total, Tensor):
            return
        if get_world_size() > 1:  # NaN and infinity survive the sum: every process learns of them and stops
            all_reduce(total)
        if bool(torch.isfinite(total)):
            return
        self.after_train(runner)
        file = Path(runner.work_dir) / f'non_finite_iter_{runner.iter}_rank{get_rank()}.pth'
        torch.save({'args': args, 'kwargs': kwargs, 'losses': losses, 'state_dict': model.state_dict()}, file)
        with _replayed(state):
            cause = find_non_finite(model, args, kwargs)
        bad = [name for name, value in losses.items() if not _is_finite(value)]
        raise FloatingPointError(
            f'iteration {runner.iter}: {", ".join(bad) or "a loss of another process"} is not finite. {cause} '
            f'The batch and the weights are in {file}. Usual causes: a learning rate that is too high or too little '
            'warm-up, no gradient clipping (optim_wrapper.clip_grad), float16 overflow (try dtype="bfloat16" or no '
            '--amp), a broken annotation in the batch.'
        )


def find_non_finite(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Run a model again and tell where the first value comes from that is NaN or infinite.

    Args:
        model: The model, with the weights that it had.
        args: Positional arguments of its forward.
        kwargs: Keyword arguments of its forward.

    Returns:
        A sentence that names the parameter, the input or the module.
    """
    for name, parameter in model.named_parameters():
        if not _is_finite(parameter):
            return f'The parameter {name} was not finite before this iteration: its last update broke it.'
    if not _is_finite((args, kwargs)):
        return 'The input of the model is not finite already: look at the data.'
    found: list[str] = []

    def look(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if not found and not _is_finite(output):
            origin = 'from finite inputs' if _is_finite(inputs) else 'from an input computed outside any module'
            found.append(
                f'The first module with a non-finite output is {names[module]} ({type(module).__name__}), {origin}.'
            )

    names = {module: name or 'the model itself' for name, module in model.named_modules()}
    handles = [module.register_forward_hook(look) for module in names if module is not model]
    try:
        with torch.no_grad():
            model(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else 'Every module has a finite output: the loss itself is computed wrongly from them.'


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the floating-point tensors in nested containers."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _is_finite(value: Any) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in _tensors(value))


def _random_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    return {'python': random.getstate(), 'numpy': np.random.get_state(), 'torch': torch.get_rng_state(), 'cuda': cuda}


def _set_random_state(state: dict[str, Any]) -> None:
    random.setstate(state['python'])
    np.random.set_state(state['numpy'])
    torch.set_rng_state(state['torch'])
    if state['cuda'] is not None:
        torch.cuda.set_rng_state(state['cuda'])


@contextmanager
def _replayed(state: dict[str, Any]) -> Iterator[None]:
    """Draw the random numbers of a moment before again; those of now go on afterwards."""
    now = _random_state()
    _set_random_state(state)
    try:
        yield
    finally:
        _set_random_state(now)
