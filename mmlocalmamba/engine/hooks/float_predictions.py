"""Predictions that metrics can read, whatever precision they were computed in."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mmlocalmamba.registry import HOOKS


@HOOKS.register_module()
class FloatPredictionsHook(Hook):
    """Turns bfloat16 in predictions into float32, in validation and testing.

    Under autocast in bfloat16 (``val_cfg.fp16=True`` on a CPU), boxes and scores are bfloat16. NumPy has no such type,
    so metrics would fail.
    """

    def __init__(self) -> None:
        self._handle: RemovableHandle | None = None

    def before_val(self, runner: Runner) -> None:
        """Watch what the model puts out."""
        self._watch(runner)

    def before_test(self, runner: Runner) -> None:
        """Watch what the model puts out."""
        self._watch(runner)

    def _watch(self, runner: Runner) -> None:
        if self._handle is None:
            model = runner.model
            while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
                model = model.get_submodule('module')
            self._handle = model.register_forward_hook(_convert_output)


def _convert_output(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
    return output if module.training else as_float32(output)


def as_float32(value: Any) -> Any:
    """Give predictions with their bfloat16 tensors in float32: tensors, data samples, and lists and dicts of them.

    Data samples are changed in place; all else is copied where it changes.
    """
    if isinstance(value, Tensor):
        return value.float() if value.dtype == torch.bfloat16 else value
    if isinstance(value, BaseDataElement):
        for name, field in value.items():
            if isinstance(field, (Tensor, BaseDataElement)):
                value.set_field(as_float32(field), name)
        return value
    if isinstance(value, dict):
        return {name: as_float32(each) for name, each in value.items()}
    if isinstance(value, list):
        return [as_float32(each) for each in value]
    return value
