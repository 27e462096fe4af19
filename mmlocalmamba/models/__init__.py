"""Models: importing this registers them. What is built on MMEngine is left out without it."""

from typing import Any

from mmlocalmamba.compat.engine import HAS_MMENGINE

from .backbones import ConvNeXt, LocalVim, LocalVMamba, Vim, VMamba
from .classifiers import ClassificationHead
from .layers.norm import LN2d
from .necks import SimpleFPN
from .variants import VARIANTS, build_backbone

if HAS_MMENGINE:
    from .classifiers import ImageClassifier
    from .data_preprocessors import MultispectralDataPreprocessor

__all__ = [
    'VARIANTS',
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
    'build_backbone',
]


def __getattr__(name: str) -> Any:
    if name in __all__:  # what MMEngine's absence has left out
        from mmlocalmamba.compat.without_mmengine import HOW_TO_GET_MM

        raise ModuleNotFoundError(f'mmlocalmamba.models.{name} is built on MMEngine, which is missing: {HOW_TO_GET_MM}')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
