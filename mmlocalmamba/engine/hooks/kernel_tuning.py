"""Tunes GPU kernels before a distributed training, in which they cannot be tuned at first use."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmlocalmamba.models.backbones.base import ScanBackbone
from mmlocalmamba.ops.tuning import tune_together
from mmlocalmamba.registry import HOOKS


@HOOKS.register_module()
class KernelTuningHook(Hook):
    """Lets rank 0 time the kernels at the sizes to come; all ranks then use what it has chosen.

    In training with one process it does nothing: kernels are tuned when they are first used. See
    :mod:`mmlocalmamba.ops.tuning`.

    Args:
        sizes: Heights and widths of the images, in pixels. Sizes between two powers of two share a choice.
        batch_size: Images per process.

    Raises:
        ValueError: If there is no size, or a number is not positive.
    """

    def __init__(self, sizes: Sequence[Sequence[int]], batch_size: int) -> None:
        self.sizes = [tuple(size) for size in sizes]
        if not self.sizes or batch_size < 1 or any(len(size) != 2 or min(size) < 1 for size in self.sizes):
            raise ValueError(
                f'sizes={list(sizes)!r} must be pairs of height and width, and batch_size={batch_size} positive'
            )
        self.batch_size = batch_size

    def before_train(self, runner: Runner) -> None:
        """Tune the backbones of the model."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        device = next(model.parameters()).device

        def run() -> None:
            cuda = [device] if device.type == 'cuda' else []
            with torch.random.fork_rng(devices=cuda), runner.optim_wrapper.optim_context(model):
                for backbone in (module for module in model.modules() if isinstance(module, ScanBackbone)):
                    self._step(backbone, device)

        tune_together(run, device)

    def _step(self, backbone: ScanBackbone, device: torch.device) -> None:
        """Run forward and backward at every size, and leave no gradient."""
        parameters = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
        for size in self.sizes:
            image = torch.randn(self.batch_size, backbone.in_channels, *size, device=device)
            outputs = backbone(image)
            if parameters:
                grads = [torch.ones_like(output) for output in outputs]
                torch.autograd.grad(outputs, parameters, grads, allow_unused=True)
