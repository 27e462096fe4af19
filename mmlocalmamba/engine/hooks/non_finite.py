"""Stops training at a loss that is NaN or infinite, and names the module that made it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce, get_rank
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmlocalmamba.registry import HOOKS


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Looks at the loss before it reaches the optimizer; when it is not finite, finds out where it came from.

    The loss is what MMEngine's ``parse_losses`` adds up: the values whose name contains "loss". Others, such as an
    accuracy, are only logged and may be NaN.

    To stop, the hook runs the forward pass again on the same batch with the same random numbers, and looks at every
    module's output. It saves the batch, the losses and the weights from before the update to
    ``<work_dir>/non_finite_iter_<iteration>_rank<rank>.pth``.

    - In float32, and in bfloat16, which has the same range, training stops at the first such loss.
    - In float16 mixed precision, the loss scaler skips a step whose gradients are not finite, and the weights stay as
      they are. One overflow is then no reason to stop. The log names the loss, and training stops after ``patience``
      checked iterations in a row. It stops at once if a parameter or a batch norm's statistics are not finite, since a
      skipped step does not mend them.

    A loss that is finite while its gradients are not is the loss scaler's business alone. In a distributed run all
    processes decide alike, and stop together.

    It costs one small reduction and one device synchronisation per checked iteration, and memory only when it stops.

    Args:
        interval: Check every so many iterations. Default: 1.
        patience: With a float16 loss scaler, stop at this many checked iterations in a row. Default: 5.

    Raises:
        FloatingPointError: From within training, when it stops.
        ValueError: If ``interval`` or ``patience`` is not a positive whole number.
    """

    priority = 'VERY_LOW'

    def __init__(self, interval: int = 1, patience: int = 5) -> None:
        for name, value in (('interval', interval), ('patience', patience)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f'{name} must be a positive whole number of iterations, got {value!r}')
        self.interval = interval
        self.patience = patience
        self._overflows = 0
        self._handles: list[Any] = []
        self._random_state: dict[str, Any] | None = None
        self._runner: Runner | None = None

    def before_train(self, runner: Runner) -> None:
        """Start to look at the model's losses."""
        self._runner, self._overflows = runner, 0
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
        parts = _loss_parts(losses)
        if not parts:
            return
        total = torch.stack(list(parts.values())).sum()
        all_reduce(total)  # NaN and infinity survive the sum, so that every process learns of them
        if bool(torch.isfinite(total)):
            self._overflows = 0
            return
        bad = [name for name, value in parts.items() if not _is_finite(value)]
        what = f'iteration {runner.iter}: {", ".join(bad) or "a loss of another process"} is not finite'
        if self._may_go_on(runner, model, total.device):
            runner.logger.warning(
                f'{what}. The float16 loss scaler skips this step ({self._overflows} in a row, training stops at '
                f'{self.patience})'
            )
            return
        self.after_train(runner)
        file = Path(runner.work_dir) / f'non_finite_iter_{runner.iter}_rank{get_rank()}.pth'
        try:
            torch.save({'args': args, 'kwargs': kwargs, 'losses': losses, 'state_dict': model.state_dict()}, file)
            saved = f'The batch and the weights are in {file}.'
        except (OSError, RuntimeError) as error:  # a full disk must not hide the cause
            saved = f'The batch and the weights could not be saved to {file} ({error}).'
        with _replayed(state):
            cause = find_non_finite(model, args, kwargs)
        raise FloatingPointError(
            f'{what}. {cause} '
            f'{saved} Usual causes: a learning rate that is too high or too little '
            'warm-up, no gradient clipping (optim_wrapper.clip_grad), float16 overflow (try dtype="bfloat16" or no '
            '--amp), a broken annotation in the batch.'
        )

    def _may_go_on(self, runner: Runner, model: nn.Module, device: torch.device) -> bool:
        """Count an overflow, and tell whether a loss scaler can deal with it; the same in every process."""
        self._overflows += 1
        if not _skips_overflows(runner.optim_wrapper) or self._overflows >= self.patience:
            return False
        broken = _broken_parameter(model) or _broken_statistics(model)
        count = torch.tensor(float(broken is not None), device=device)
        all_reduce(count)  # a batch norm's statistics are each process's own
        return not bool(count)


def _loss_parts(losses: Mapping[str, Any]) -> dict[str, Tensor]:
    """Give what MMEngine adds up to the loss, by name: the mean of a tensor, or the sum of a list's means."""
    parts = {}
    for name, value in losses.items():
        tensors = list(_tensors(value)) if 'loss' in name else []
        if tensors:
            parts[name] = torch.stack([tensor.detach().float().mean() for tensor in tensors]).sum()
    return parts


def _skips_overflows(optim_wrapper: Any) -> bool:
    """Tell whether a step in float16 whose gradients are not finite is skipped."""
    scaler = getattr(optim_wrapper, 'loss_scaler', None)
    # Without a dtype, MMEngine's AmpOptimWrapper takes the device's default, which is float16.
    return scaler is not None and scaler.is_enabled() and optim_wrapper.cast_dtype in (None, torch.float16)


def _broken_parameter(model: nn.Module) -> str | None:
    return next((name for name, parameter in model.named_parameters() if not _is_finite(parameter)), None)


def _broken_statistics(model: nn.Module) -> str | None:
    norms = ((name, module) for name, module in model.named_modules() if isinstance(module, _BatchNorm))
    return next((name for name, norm in norms if not _is_finite([norm.running_mean, norm.running_var])), None)


def find_non_finite(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Run a model again and tell where the first value comes from that is NaN or infinite.

    Args:
        model: The model, with the weights that it had.
        args: Positional arguments of its forward.
        kwargs: Keyword arguments of its forward.

    Returns:
        A sentence that names the parameter, the input or the module that is to blame.
    """
    broken = _broken_parameter(model)
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
    # Every process comes here after its forward, whatever it has found: layers such as SyncBN wait for the others.
    if broken is not None:
        return f'The parameter {broken} was not finite before this iteration: its last update broke it.'
    if not _is_finite((args, kwargs)):
        return 'The input of the model is not finite already: look at the data.'
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
