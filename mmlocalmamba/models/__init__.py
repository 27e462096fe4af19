"""Models: importing this registers them."""

from .backbones import LocalVim, LocalVMamba
from .classifiers import ClassificationHead, ImageClassifier

__all__ = ['ClassificationHead', 'ImageClassifier', 'LocalVMamba', 'LocalVim']
