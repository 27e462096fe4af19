"""Data sets: importing this registers them."""

from .image_folder import ImageFolder, TimmTransform

__all__ = ['ImageFolder', 'TimmTransform']
