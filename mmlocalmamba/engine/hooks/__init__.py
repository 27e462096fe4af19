"""Hooks for MMEngine's Runner."""

from .atomic_checkpoint import AtomicCheckpointHook
from .averaged_weights import AveragedWeightsHook
from .bad_samples import BadSamplesHook
from .float_predictions import FloatPredictionsHook
from .iteration_seed import IterationSeedHook
from .kernel_tuning import KernelTuningHook
from .loaded_weights import LoadedWeightsHook
from .non_finite import NonFiniteHook
from .num_classes import NumClassesHook
from .resume import ResumeHook

__all__ = [
    'AtomicCheckpointHook',
    'AveragedWeightsHook',
    'BadSamplesHook',
    'FloatPredictionsHook',
    'IterationSeedHook',
    'KernelTuningHook',
    'LoadedWeightsHook',
    'NonFiniteHook',
    'NumClassesHook',
    'ResumeHook',
]
