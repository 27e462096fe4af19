"""What goes around training: hooks, checks before it starts, and what the command line tools share."""

from .cpu_amp import CpuAmpOptimWrapper
from .hooks import BadSamplesHook, IterationSeedHook, KernelTuningHook, NonFiniteHook
from .layer_decay import LayerDecayOptimWrapperConstructor

__all__ = [
    'BadSamplesHook',
    'CpuAmpOptimWrapper',
    'IterationSeedHook',
    'KernelTuningHook',
    'LayerDecayOptimWrapperConstructor',
    'NonFiniteHook',
]
