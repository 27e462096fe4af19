"""Spatial and channel attention (SCAttn) over the output of one scan (paper section 4.1, figure 3b)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SCAttn(nn.Module):
    """Weigh the channels, and if asked the tokens, of a scanned sequence.

    With ``n = LN(x)`` and ``g = GELU(global_reduce(mean of n over tokens))``::

        channel gate  c = sigmoid(channel_select(g))
        spatial gate  s = sigmoid(spatial_select([GELU(local_reduce(n)), g]))
        out           = x * c * s

    The published weights hold the channel gate alone, hence the default.

    Args:
        dim: Channels C.
        reduction: Ratio r of C to the hidden width (paper: 8 for all models).
        spatial: Whether to build the paper's spatial gate too.
    """

    def __init__(self, dim: int, reduction: int = 8, spatial: bool = False) -> None:
        super().__init__()
        hidden = max(dim // reduction, 1)
        self.norm = nn.LayerNorm(dim)
        self.global_reduce = nn.Linear(dim, hidden)
        self.channel_select = nn.Linear(hidden, dim)
        self.local_reduce = nn.Linear(dim, hidden) if spatial else None
        self.spatial_select = nn.Linear(2 * hidden, 1) if spatial else None

    def gates(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute the gates of tokens x, (..., L, C).

        Returns:
            The channel gate (..., 1, C), and the spatial gate (..., L, 1) or None if it was not built.
        """
        if self.local_reduce is None or self.spatial_select is None:
            g = F.gelu(self.global_reduce(self._mean_of_norm(x)))
            return torch.sigmoid(self.channel_select(g)), None
        n = self.norm(x)
        g = F.gelu(self.global_reduce(n.mean(-2, keepdim=True)))
        local = F.gelu(self.local_reduce(n))
        spatial = torch.sigmoid(self.spatial_select(torch.cat([local, g.expand_as(local)], -1)))
        return torch.sigmoid(self.channel_select(g)), spatial

    def _mean_of_norm(self, x: Tensor) -> Tensor:
        """Average LN(x) over the tokens without ever storing it: the mean is linear in x once the moments are known."""
        variance, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
        weights = torch.rsqrt(variance + self.norm.eps)  # (..., L, 1)
        total = weights.transpose(-1, -2) @ x - (weights * mean).sum(-2, keepdim=True)
        return total / x.shape[-2] * self.norm.weight + self.norm.bias

    def forward(self, x: Tensor) -> Tensor:
        """Gate tokens x, (..., L, C); returns the same shape."""
        channel, spatial = self.gates(x)
        return x * channel if spatial is None else x * channel * spatial
