"""Hooks for MMEngine's Runner."""

from .non_finite import NonFiniteHook
from .num_classes import NumClassesHook

__all__ = ['NonFiniteHook', 'NumClassesHook']
