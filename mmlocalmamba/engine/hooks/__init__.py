"""Hooks for MMEngine's Runner."""

from .bad_samples import BadSamplesHook
from .iteration_seed import IterationSeedHook
from .kernel_tuning import KernelTuningHook
from .loaded_weights import LoadedWeightsHook
from .non_finite import NonFiniteHook
from .num_classes import NumClassesHook

__all__ = [
    'BadSamplesHook',
    'IterationSeedHook',
    'KernelTuningHook',
    'LoadedWeightsHook',
    'NonFiniteHook',
    'NumClassesHook',
]
