"""Image classification."""

from .image_classifier import ClassificationHead, ImageClassifier

__all__ = ['ClassificationHead', 'ImageClassifier']
