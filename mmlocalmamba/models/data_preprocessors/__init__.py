"""What happens to a batch of images on the device before a detector or segmenter sees it."""

from .multispectral import MultispectralDataPreprocessor

__all__ = ['MultispectralDataPreprocessor']
