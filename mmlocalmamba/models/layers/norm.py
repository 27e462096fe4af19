"""Normalisation of maps in the heads and the neck of ViTDet."""

from __future__ import annotations

from torch import Tensor, nn

from mmlocalmamba.registry import MODELS


@MODELS.register_module()
class LN2d(nn.LayerNorm):
    """LayerNorm over the channels of an NCHW map, each position by itself (Li et al., ViTDet, 2022).

    Args:
        num_features: Channels C.
        eps: Added to the variance.

    Example:
        >>> import torch
        >>> LN2d(4)(torch.randn(2, 4, 3, 5)).shape
        torch.Size([2, 4, 3, 5])
    """

    def __init__(self, num_features: int, eps: float = 1e-6) -> None:
        super().__init__(num_features, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W); returns the same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
