"""Sees to it that a resumed run goes on as the one that was stopped, and says where it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.dist import all_gather_object, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor

from mmlocalmamba.engine.checkpoint_files import write_whole
from mmlocalmamba.engine.main_process import in_every_process
from mmlocalmamba.registry import HOOKS

EVALUATED = 'last_evaluation'

_ELEMENTWISE = (
    'acc_delta',
    'exp_avg',
    'exp_avg_sq',
    'exp_inf',
    'max_exp_avg_sq',
    'momentum_buffer',
    'square_avg',
    'sum',
)
"""What optimizers keep for every element of a parameter."""


@HOOKS.register_module()
class ResumeHook(Hook):
    """Compares a run that is resumed with the one that wrote the checkpoint.

    It refuses what would go wrong: optimizer state for parameters of other shapes, as after a change of ``img_size``,
    and processes that found different checkpoints. It warns where the run cannot go on exactly: another number of
    processes, mixed precision on one side only, gradients that were being accumulated, transforms that mix in images
    from a cache.

    MMEngine saves before it evaluates, and goes on after the evaluation. So an evaluation that was interrupted would be
    left out, and a best checkpoint with it. This does it before training goes on. The file ``last_evaluation`` in the
    work dir holds the epoch or iteration of the last one that was completed.

    Raises:
        ValueError: Before training goes on, if it is refused.
    """

    priority = 'LOWEST'  # after the checkpoint hook

    def __init__(self) -> None:
        self._checkpoint: dict[str, Any] | None = None
        self._training = False

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Write down how many processes the run has."""
        checkpoint['meta']['world_size'] = get_world_size()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Remember what is compared: MMEngine takes some of it out while it loads."""
        if runner._resume:
            optimizer = checkpoint.get('optimizer', {})
            self._checkpoint = {'meta': checkpoint.get('meta', {}), 'scaled': 'loss_scaler' in optimizer}

    def before_train(self, runner: Runner) -> None:
        """Compare, and repeat an evaluation that was interrupted."""
        self._training = True
        iterations = all_gather_object(runner.iter)
        if len(set(iterations)) > 1:
            raise ValueError(
                f'the processes start at different iterations ({", ".join(map(str, iterations))} for ranks 0 to '
                f'{len(iterations) - 1}): they do not see the same work dir, {runner.work_dir}. Put it on a shared '
                'file system, or give each --resume FILE'
            )
        if self._checkpoint is None:
            if is_main_process() and not runner.iter:
                (Path(runner.work_dir) / EVALUATED).unlink(missing_ok=True)  # an earlier run's
            return
        _check_optimizer_state(runner)
        for difference in _differences(runner, **self._checkpoint):
            runner.logger.warning(f'{difference} The resumed run is not exactly what one without a stop would be.')
        self._checkpoint = None
        if _evaluation_due(runner) and _last_evaluation(runner) != _step(runner):
            runner.logger.info('The evaluation at this point was interrupted, or is not known: it is done now.')
            runner.val_loop.run()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Write down that an evaluation is complete, best checkpoint included."""
        if self._training:
            in_every_process(lambda: _note_evaluation(runner))

    def after_train(self, runner: Runner) -> None:
        """Take evaluations after training for what they are."""
        self._training = False


def _differences(runner: Runner, meta: dict[str, Any], scaled: bool) -> Iterator[str]:
    """Yield a sentence for everything that keeps the run from going on exactly."""
    before, now = meta.get('world_size'), get_world_size()
    if before is not None and before != now:
        yield (
            f'The checkpoint is from a run with {before} processes, and this one has {now}: with the batch size per '
            'process unchanged, the total batch, the epochs and what each process draws are others.'
        )
    wrapper = runner.optim_wrapper
    if scaled != hasattr(wrapper, 'loss_scaler'):
        yield (
            f'The checkpoint is from a run {"with" if scaled else "without"} mixed precision, and this one is '
            f'{"without" if scaled else "with"} it.'
        )
    accumulated = getattr(wrapper, '_accumulative_counts', 1)
    if runner.iter % accumulated:
        yield (
            f'Iteration {runner.iter} lies between two updates, which come every {accumulated} iterations: a '
            'checkpoint does not hold the gradients that were accumulated. Save at multiples of accumulative_counts.'
        )
    cached = sorted(set(_cached_transforms(runner.train_dataloader.dataset)))
    if cached:
        yield f'{", ".join(cached)} mixes in images from a cache that a checkpoint does not hold.'


def _cached_transforms(dataset: Any) -> Iterator[str]:
    """Yield the names of transforms that keep images of earlier samples, wrappers and their data sets included."""
    pipeline = getattr(dataset, 'pipeline', None)
    for transform in getattr(pipeline, 'transforms', None) or (pipeline if isinstance(pipeline, list) else ()):
        if hasattr(transform, 'results_cache'):
            yield type(transform).__name__
    inner = getattr(dataset, 'datasets', None)
    for part in inner if isinstance(inner, (list, tuple)) else [getattr(dataset, 'dataset', None)]:
        if part is not None:
            yield from _cached_transforms(part)


def _check_optimizer_state(runner: Runner) -> None:
    """Refuse optimizer state of other shapes than the parameters have.

    Raises:
        ValueError: The message names a parameter and both shapes.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    names = {parameter: name for name, parameter in model.named_parameters()}
    wrapper = runner.optim_wrapper
    for part in wrapper.values() if hasattr(wrapper, 'optim_wrappers') else [wrapper]:
        for parameter, state in part.optimizer.state.items():
            for key in _ELEMENTWISE:
                value = state.get(key)
                if isinstance(value, Tensor) and value.shape != parameter.shape:
                    raise ValueError(
                        f'cannot resume: {names.get(parameter, "a parameter")} has shape {tuple(parameter.shape)}, and '
                        f'the optimizer state in the checkpoint ({key}) is for {tuple(value.shape)}: the run that '
                        'wrote it had another model, for example another img_size. Resume with its settings; to go on '
                        'from its weights with a new optimizer, give --cfg-options load_from=<checkpoint> without '
                        '--resume'
                    )


def _step(runner: Runner) -> int:
    return runner.epoch if isinstance(runner.train_loop, EpochBasedTrainLoop) else runner.iter


def _evaluation_due(runner: Runner) -> bool:
    """Tell whether MMEngine evaluates at the point that is resumed from."""
    loop, step = runner.train_loop, _step(runner)
    by_epoch = isinstance(loop, EpochBasedTrainLoop)
    if runner.val_loop is None or not hasattr(loop, 'val_interval') or step == 0 or step < loop.val_begin:
        return False
    # Which interval holds is decided before the step is counted up.
    if getattr(loop, 'dynamic_milestones', None):
        loop._decide_current_val_interval()
    return step % loop.val_interval == 0 or step == (loop.max_epochs if by_epoch else loop.max_iters)


def _last_evaluation(runner: Runner) -> int | None:
    """Give what ``last_evaluation`` holds; the same in every process, since none writes it now."""
    file = Path(runner.work_dir) / EVALUATED
    text = file.read_text(encoding='utf-8') if file.is_file() else ''
    return int(text) if text.isdecimal() else None


def _note_evaluation(runner: Runner) -> None:
    if is_main_process():
        write_whole(Path(runner.work_dir) / EVALUATED, str(_step(runner)).encode())
