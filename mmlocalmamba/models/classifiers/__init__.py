"""Image classification. The head needs no more than PyTorch; the classifier and its preprocessor are MMEngine's."""

from mmlocalmamba.compat.engine import HAS_MMENGINE

from .head import ClassificationHead

__all__ = ['ClassificationHead']

if HAS_MMENGINE:
    from .data_preprocessor import ClassificationDataPreprocessor
    from .image_classifier import ImageClassifier

    __all__ += ['ClassificationDataPreprocessor', 'ImageClassifier']
