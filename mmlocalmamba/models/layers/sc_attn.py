"""Spatial and channel attention (SCAttn) over the output of one scan (paper section 4.1, figure 3b)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlocalmamba.ops import ChannelGate
from mmlocalmamba.ops.channel_gate import channel_gate


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

    @property
    def spatial(self) -> bool:
        """Whether there is a spatial gate."""
        return self.spatial_select is not None

    def channel_gate(self) -> ChannelGate:
        """Give the weights of the channel gate, as the operations that merge directions take them."""
        return ChannelGate(
            norm_weight=self.norm.weight,
            norm_bias=self.norm.bias,
            reduce_weight=self.global_reduce.weight,
            reduce_bias=self.global_reduce.bias,
            select_weight=self.channel_select.weight,
            select_bias=self.channel_select.bias,
            eps=self.norm.eps,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Gate tokens x, (..., L, C); returns the same shape."""
        if self.local_reduce is None or self.spatial_select is None:
            return x * channel_gate(x, self.channel_gate())
        n = self.norm(x)
        g = F.gelu(self.global_reduce(n.mean(-2, keepdim=True)))
        local = F.gelu(self.local_reduce(n))
        spatial = torch.sigmoid(self.spatial_select(torch.cat([local, g.expand_as(local)], -1)))
        return x * torch.sigmoid(self.channel_select(g)) * spatial
