"""What goes around training: hooks, checks before it starts, and what the command line tools share."""

from .hooks import BadSamplesHook, IterationSeedHook, KernelTuningHook, NonFiniteHook
from .layer_decay import LayerDecayOptimWrapperConstructor

__all__ = [
    'BadSamplesHook',
    'IterationSeedHook',
    'KernelTuningHook',
    'LayerDecayOptimWrapperConstructor',
    'NonFiniteHook',
]
