"""Data sets: importing this registers them."""

from .direction_textures import DirectionTextures
from .image_folder import ImageFolder, TimmTransform

__all__ = ['DirectionTextures', 'ImageFolder', 'TimmTransform']
