"""Compares the classes of classification data with those of the model before anything is computed."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmlocalmamba.registry import HOOKS


@HOOKS.register_module()
class NumClassesHook(Hook):
    """Stops a run whose data have other classes than its classifier, or than the other split.

    Labels are places in the list of classes. So a class too many ends in an index error deep inside the loss, and a
    class that one split lacks shifts the labels after it, which nobody would notice. It looks at data sets that state
    ``classes`` in their ``metainfo`` and at models with a ``head.num_classes``.

    Raises:
        ValueError: Before training, validation or testing. The message names the config keys or the classes.
    """

    def before_train(self, runner: Runner) -> None:
        """Check the training data, and the validation data against them."""
        self._check(runner, 'train_dataloader', runner.train_dataloader.dataset)
        if runner.val_loop is None:
            return
        dataset = runner.val_dataloader.dataset
        self._check(runner, 'val_dataloader', dataset)
        ours, theirs = _classes(runner.train_dataloader.dataset), _classes(dataset)
        if ours is not None and theirs is not None and ours != theirs:
            differing = sorted(set(ours) ^ set(theirs))
            what = f'{differing[:8]}' if differing else 'their order'
            raise ValueError(
                f'the classes of train_dataloader and val_dataloader differ in {what}: both splits need the same '
                'folders, or the same metainfo.classes'
            )

    def before_val(self, runner: Runner) -> None:
        """Check the validation data."""
        self._check(runner, 'val_dataloader', runner.val_dataloader.dataset)

    def before_test(self, runner: Runner) -> None:
        """Check the test data."""
        self._check(runner, 'test_dataloader', runner.test_dataloader.dataset)

    def _check(self, runner: Runner, loader: str, dataset: Any) -> None:
        classes = _classes(dataset)
        if classes is None:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        for part in ('head', 'data_preprocessor'):
            count = getattr(getattr(model, part, None), 'num_classes', None)
            if count is not None and count != len(classes):
                raise ValueError(
                    f'model.{part}.num_classes is {count}, but the data of {loader} have {len(classes)} classes '
                    f'({", ".join(map(str, classes[:5]))}{", ..." if len(classes) > 5 else ""}). Set both: '
                    f'--cfg-options model.head.num_classes={len(classes)} '
                    f'model.data_preprocessor.num_classes={len(classes)}'
                )


def _classes(dataset: Any) -> tuple[str, ...] | None:
    """Give the names of a data set's classes; None if it does not state any."""
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    return None if classes is None else tuple(classes)
