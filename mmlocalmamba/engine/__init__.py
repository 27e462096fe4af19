"""What goes around training: hooks, checks before it starts, and what the command line tools share."""

from .hooks import IterationSeedHook, KernelTuningHook, NonFiniteHook
from .layer_decay import LayerDecayOptimWrapperConstructor

__all__ = ['IterationSeedHook', 'KernelTuningHook', 'LayerDecayOptimWrapperConstructor', 'NonFiniteHook']
