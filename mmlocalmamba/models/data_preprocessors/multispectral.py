"""Normalisation of images of any number of channels, in front of the data preprocessor of any mm package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from mmlocalmamba.registry import MODELS

_OWN = ('mean', 'std', 'bgr_to_rgb', 'rgb_to_bgr')


@MODELS.register_module()
class MultispectralDataPreprocessor(BaseDataPreprocessor):
    """Normalise images of any number of channels, then let another data preprocessor pad and stack them.

    Those of MMDetection and MMSegmentation take one or three channels. This one stands before them, so that all else
    that they do stays as it is. Padding comes after the normalisation, as there: padded pixels have the mean's value.

    Args:
        data_preprocessor: Config of what pads and stacks, such as ``dict(type='DetDataPreprocessor', pad_mask=True,
            pad_size_divisor=32)``, without any of mean, std, bgr_to_rgb and rgb_to_bgr.
        mean: Mean of each channel, after the division by ``scale``. As many values as there are channels.
        std: Standard deviation of each channel, likewise.
        scale: What pixels are divided by first: 65535 for all of 16 bits, 10000 for reflectances of Sentinel-2.
        bgr_to_rgb: Whether to swap the first and the last channel of three.
        non_blocking: Whether to copy to the device asynchronously.

    Raises:
        ValueError: If numbers do not fit together, ``bgr_to_rgb`` is given for other than three channels, or both
            preprocessors are to normalise; when used, if an image has other channels.

    Example:
        >>> import torch
        >>> inner = dict(type='mmengine.ImgDataPreprocessor', pad_size_divisor=32)
        >>> preprocessor = MultispectralDataPreprocessor(inner, mean=[0.5] * 5, std=[0.25] * 5, scale=10000)
        >>> images = [torch.full((5, 20, 30), 10000, dtype=torch.uint16)]
        >>> batch = preprocessor(dict(inputs=images))['inputs']
        >>> tuple(batch.shape), float(batch[0, 4, 0, 0]), float(batch[0, 4, 31, 31])
        ((1, 5, 32, 32), 2.0, 0.0)
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        data_preprocessor: Mapping[str, Any],
        mean: Sequence[float],
        std: Sequence[float],
        scale: float = 1.0,
        bgr_to_rgb: bool = False,
        non_blocking: bool = False,
    ) -> None:
        super().__init__(non_blocking)
        channels = len(mean)
        if channels == 0 or channels != len(std) or min(std) <= 0 or scale <= 0:
            raise ValueError(
                f'want one mean and one positive std per channel, and a positive scale; got {channels} means, '
                f'{len(std)} stds from {min(std, default=0)} on, and scale={scale}'
            )
        if bgr_to_rgb and channels != 3:
            raise ValueError(
                f'bgr_to_rgb=True is for images of 3 channels, not {channels}: leave it out. '
                'mmlocalmamba.LoadMultispectralImage gives the channels in the order of the file'
            )
        twice = [key for key in _OWN if data_preprocessor.get(key)]
        if twice:
            raise ValueError(f'{twice} of the inner data_preprocessor would be applied twice: leave them out there')
        self.scale, self.bgr_to_rgb = scale, bgr_to_rgb
        self.register_buffer('mean', torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.data_preprocessor = MODELS.build(dict(data_preprocessor))

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Process ``inputs``, a list of images (C, H, W) or a batch (B, C, H, W) of any type of numbers."""
        data = self.cast_data(data)
        inputs = data['inputs']
        inputs = self._normalise(inputs) if isinstance(inputs, Tensor) else list(map(self._normalise, inputs))
        return self.data_preprocessor({**data, 'inputs': inputs}, training)

    def _normalise(self, image: Tensor) -> Tensor:
        if image.dim() < 3 or image.shape[-3] != len(self.mean):
            raise ValueError(
                f'an image is {tuple(image.shape)}, but the data preprocessor has the mean of {len(self.mean)} '
                'channels: want (channels, height, width). Check what the loading transform gives, or give mean and '
                'std of its channels'
            )
        if self.bgr_to_rgb:
            image = image.flip(-3)
        return (image.float() / self.scale - self.mean) / self.std
