"""Hooks for MMEngine's Runner."""

from .iteration_seed import IterationSeedHook
from .non_finite import NonFiniteHook
from .num_classes import NumClassesHook

__all__ = ['IterationSeedHook', 'NonFiniteHook', 'NumClassesHook']
