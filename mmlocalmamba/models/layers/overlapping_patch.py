"""Overlapping patches: the convolutional stem and down-sampling of VMamba's second version (Liu et al., 2024)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .patch import check_image


class ConvDownsample(nn.Module):
    """Halve a map's resolution by a 3 x 3 convolution of stride 2, followed by a LayerNorm.

    Args:
        dim: Channels in.
        out_dim: Channels out.
    """

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, out_dim, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, dim) to (B, ceil(H / 2), ceil(W / 2), out_dim)."""
        return self.norm(self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class ConvStem(nn.Module):
    """Embed an image at stride 4 by two convolutions of stride 2, with a GELU between.

    Args:
        in_channels: Channels of the image.
        dim: Channels C of the embedding; the first convolution gives half of them.
    """

    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.first = ConvDownsample(in_channels, dim // 2)
        self.second = ConvDownsample(dim // 2, dim)

    def forward(self, image: Tensor) -> Tensor:
        """Embed an image (B, in_channels, H, W) as a map (B, ceil(H / 4), ceil(W / 4), C).

        Raises:
            ValueError: If the image has no pixels, another number of channels, or whole numbers.
        """
        check_image(image, self.in_channels)
        return self.second(F.gelu(self.first(image.permute(0, 2, 3, 1))))
