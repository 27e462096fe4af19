"""Merging the outputs of several scans into one (paper section 4.1), also while searching for the scans (4.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .sc_attn import SCAttn


class DirectionMerge(nn.Module):
    """Gate each direction's output by a shared SCAttn, then add the directions up.

    Args:
        dim: Channels C.
        spatial_attn: Whether SCAttn has its spatial gate.
        attn: Whether to have SCAttn at all; without it, directions are simply added (paper table 5).
    """

    def __init__(self, dim: int, spatial_attn: bool = False, attn: bool = True) -> None:
        super().__init__()
        if spatial_attn and not attn:
            raise ValueError('spatial_attn=True is a part of SCAttn, which attn=False leaves out: drop one of them')
        self.attn = SCAttn(dim, spatial=spatial_attn) if attn else None

    def forward(self, y: Tensor) -> Tensor:
        """Merge scans y (B, K, L, C) into (B, L, C)."""
        if self.attn is None:
            return y.sum(1)
        return self.attn(y).sum(1)


class DirectionMixture(DirectionMerge):
    """Mix all candidate directions by learned probabilities: the supernet's relaxation (paper equation 5).

    Each gated branch passes a LayerNorm without affine, then the branches are added with weights softmax(alpha).

    Args:
        dim: Channels C.
        num_candidates: Number of candidate directions K.
        spatial_attn: Whether SCAttn has its spatial gate.
        attn: Whether to have SCAttn at all.
    """

    def __init__(self, dim: int, num_candidates: int, spatial_attn: bool = False, attn: bool = True) -> None:
        super().__init__(dim, spatial_attn, attn)
        self.alpha = nn.Parameter(1e-3 * torch.randn(num_candidates))

    def forward(self, y: Tensor) -> Tensor:
        """Mix scans y (B, K, L, C) into (B, L, C)."""
        y = y if self.attn is None else self.attn(y)
        y = F.layer_norm(y, y.shape[-1:])
        return torch.einsum('bklc,k->blc', y, self.alpha.softmax(0).to(y.dtype))
