"""What happens to a batch of classification data on the device: moving, Mixup and CutMix."""

from __future__ import annotations

from typing import Any

from mmengine.model import BaseDataPreprocessor
from timm.data import Mixup

from mmlocalmamba.registry import MODELS


@MODELS.register_module()
class ClassificationDataPreprocessor(BaseDataPreprocessor):
    """Move a batch to the device and, in training, mix its images and labels by timm's Mixup and CutMix.

    Images come normalised from :class:`~mmlocalmamba.datasets.TimmTransform`.

    Args:
        num_classes: Number of classes.
        mixup: Parameter of Mixup's beta distribution; 0 turns it off.
        cutmix: Parameter of CutMix's beta distribution; 0 turns it off. With both on, each batch gets one of them.
        label_smoothing: Probability that soft labels spread over all classes.
        non_blocking: Whether to copy to the device asynchronously.

    Raises:
        ValueError: If a parameter is out of range; when used, if a batch to be mixed has an odd number of images.
    """

    def __init__(
        self,
        num_classes: int,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        label_smoothing: float = 0.0,
        non_blocking: bool = False,
    ) -> None:
        super().__init__(non_blocking)
        if mixup < 0 or cutmix < 0 or not 0 <= label_smoothing < 1:
            raise ValueError(
                f'want mixup and cutmix >= 0 and label_smoothing in [0, 1), got {mixup}, {cutmix}, {label_smoothing}'
            )
        self.num_classes = num_classes
        mixes = mixup > 0 or cutmix > 0 or label_smoothing > 0
        prob = 1.0 if mixup > 0 or cutmix > 0 else 0.0
        self.mixup = (
            Mixup(mixup, cutmix, prob=prob, label_smoothing=label_smoothing, num_classes=num_classes) if mixes else None
        )

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Process ``inputs`` (B, C, H, W) and ``labels``: int64 (B,), mixed float (B, num_classes)."""
        data = self.cast_data(data)
        if not training or self.mixup is None:
            return data
        inputs, labels = data['inputs'], data['labels']
        if len(inputs) % 2:
            raise ValueError(
                f'Mixup and CutMix mix images by pairs, but the batch has {len(inputs)}: set an even batch_size and '
                'drop_last=True'
            )
        inputs, labels = self.mixup(inputs, labels)
        return {**data, 'inputs': inputs, 'labels': labels}
