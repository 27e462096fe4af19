"""Cutting an image into patches, and merging patches between stages."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PatchEmbed(nn.Module):
    """Embed non-overlapping patches, channels last, with LayerNorm if asked.

    Args:
        in_channels: Channels of the image.
        dim: Channels C of the embedding.
        patch_size: Side of a patch in pixels. Images are zero-padded at the bottom and right up to a multiple of it,
            those too that are smaller than a patch.
        norm: Whether a LayerNorm follows.
    """

    def __init__(self, in_channels: int, dim: int, patch_size: int, norm: bool) -> None:
        super().__init__()
        self.in_channels, self.patch_size = in_channels, patch_size
        self.proj = nn.Conv2d(in_channels, dim, patch_size, patch_size)
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        """Embed an image (B, in_channels, H, W) as a map (B, ceil(H / patch), ceil(W / patch), C).

        Raises:
            ValueError: If the image has no pixels, another number of channels, or whole numbers.
        """
        check_image(image, self.in_channels)
        height, width = image.shape[-2:]
        if _may_be_symbolic(height, width):
            # The convolution leaves out what fills no patch, and the map's size is a simple formula.
            right = bottom = self.patch_size - 1
        else:
            right, bottom = -width % self.patch_size, -height % self.patch_size
        if right or bottom:
            image = F.pad(image, (0, right, 0, bottom))
        return self.norm(self.proj(image).permute(0, 2, 3, 1))


def check_image(image: Tensor, in_channels: int) -> None:
    """Raise a ValueError unless an image is (B, in_channels, H, W), with pixels, and of a floating-point dtype."""
    if image.dim() != 4 or image.shape[1] != in_channels:
        channels = f', {image.shape[1]} channels' if image.dim() == 4 else ''
        raise ValueError(
            f'the image is {tuple(image.shape)}{channels}, but the backbone has in_channels={in_channels} and wants '
            f'(B, {in_channels}, H, W)'
        )
    if 0 in image.shape[2:]:
        raise ValueError(f'the image is {image.shape[2]} x {image.shape[3]} pixels: want at least one')
    if not image.is_floating_point():
        raise ValueError(
            f'the image is {image.dtype}, want float32, bfloat16, float16 or float64: the data preprocessor normalises '
            'images of whole numbers'
        )


class PatchMerging(nn.Module):
    """Halve a map's resolution: 2 x 2 neighbours are joined, normalised and projected (Swin's, first version).

    Args:
        dim: Channels C in.
        out_dim: Channels out; 2C in all published models.
    """

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, out_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Merge a map (B, H, W, C) into (B, ceil(H / 2), ceil(W / 2), out_dim); odd sides are zero-padded."""
        height, width = x.shape[1:3]
        # (row, column) parities in the order (0, 0), (1, 0), (0, 1), (1, 1)
        if _may_be_symbolic(height, width):
            x = F.pad(x, (0, 0, 0, 1, 0, 1))
            parities = [(row, column) for column in (0, 1) for row in (0, 1)]
            x = torch.cat([x[:, r : height + r : 2, c : width + c : 2] for r, c in parities], -1)
            return self.reduction(self.norm(x))
        if height % 2 or width % 2:
            x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
        x = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2, 5)
        return self.reduction(self.norm(x.flatten(3)))


def _may_be_symbolic(height: int, width: int) -> bool:
    """Tell whether a graph is made for maps of any size, so that nothing may depend on whether there is padding.

    To ask would make a compiler compile the model anew for every combination of odd and even sides, and an exporter
    refuse all combinations but one. Besides, sizes with remainders are formulas that neither can reason about.
    """
    if torch.jit.is_tracing():  # sizes are tensors there
        return True
    return torch.compiler.is_dynamo_compiling() or isinstance(height, torch.SymInt) or isinstance(width, torch.SymInt)
