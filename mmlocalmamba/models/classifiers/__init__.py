"""Image classification."""

from .data_preprocessor import ClassificationDataPreprocessor
from .image_classifier import ClassificationHead, ImageClassifier

__all__ = ['ClassificationDataPreprocessor', 'ClassificationHead', 'ImageClassifier']
