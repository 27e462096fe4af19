"""Hooks for MMEngine's Runner."""

from .iteration_seed import IterationSeedHook
from .kernel_tuning import KernelTuningHook
from .loaded_weights import LoadedWeightsHook
from .non_finite import NonFiniteHook
from .num_classes import NumClassesHook

__all__ = ['IterationSeedHook', 'KernelTuningHook', 'LoadedWeightsHook', 'NonFiniteHook', 'NumClassesHook']
