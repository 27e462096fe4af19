"""Hooks for MMEngine's Runner."""

from .non_finite import NonFiniteHook

__all__ = ['NonFiniteHook']
