"""What goes around training: hooks, checks before it starts, and what the command line tools share."""

from .hooks import NonFiniteHook

__all__ = ['NonFiniteHook']
