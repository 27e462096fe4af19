"""Data sets: importing this registers them."""

from .direction_textures import DirectionTextures
from .image_folder import ImageFolder, TimmTransform
from .multispectral import LoadMultispectralImage

__all__ = ['DirectionTextures', 'ImageFolder', 'LoadMultispectralImage', 'TimmTransform']
