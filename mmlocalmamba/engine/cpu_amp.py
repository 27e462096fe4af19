"""Mixed precision on the CPU: MMEngine's own wrapper for it asserts that there is a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from mmlocalmamba.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class CpuAmpOptimWrapper(OptimWrapper):
    """Compute the forward in bfloat16 where PyTorch's autocast for CPUs does so; weights and gradients stay float32.

    bfloat16 has the range of float32, so losses are not scaled. Arguments are those of MMEngine's OptimWrapper.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward of a training step with autocast."""
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16):
            yield
