"""Models: importing this registers them."""

from .backbones import ConvNeXt, LocalVim, LocalVMamba, Vim, VMamba
from .classifiers import ClassificationHead, ImageClassifier
from .data_preprocessors import MultispectralDataPreprocessor
from .layers.norm import LN2d
from .necks import SimpleFPN

__all__ = [
    'ClassificationHead',
    'ConvNeXt',
    'ImageClassifier',
    'LN2d',
    'LocalVMamba',
    'LocalVim',
    'MultispectralDataPreprocessor',
    'SimpleFPN',
    'VMamba',
    'Vim',
]
