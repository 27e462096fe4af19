"""Models: importing this registers them."""

from .backbones import ConvNeXt, LocalVim, LocalVMamba, Vim, VMamba
from .classifiers import ClassificationHead, ImageClassifier
from .layers.norm import LN2d
from .necks import SimpleFPN

__all__ = [
    'ClassificationHead',
    'ConvNeXt',
    'ImageClassifier',
    'LN2d',
    'LocalVMamba',
    'LocalVim',
    'SimpleFPN',
    'VMamba',
    'Vim',
]
