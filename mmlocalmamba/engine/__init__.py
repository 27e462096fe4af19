"""What goes around training: hooks, checks before it starts, and what the command line tools share."""

from .hooks import NonFiniteHook
from .layer_decay import LayerDecayOptimWrapperConstructor

__all__ = ['LayerDecayOptimWrapperConstructor', 'NonFiniteHook']
