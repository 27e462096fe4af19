"""Hooks for MMEngine's Runner."""

from .iteration_seed import IterationSeedHook
from .loaded_weights import LoadedWeightsHook
from .non_finite import NonFiniteHook
from .num_classes import NumClassesHook

__all__ = ['IterationSeedHook', 'LoadedWeightsHook', 'NonFiniteHook', 'NumClassesHook']
