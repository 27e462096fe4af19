"""What goes around training: hooks, checks before it starts, and what the command line tools share."""

from .hooks import IterationSeedHook, NonFiniteHook
from .layer_decay import LayerDecayOptimWrapperConstructor

__all__ = ['IterationSeedHook', 'LayerDecayOptimWrapperConstructor', 'NonFiniteHook']
