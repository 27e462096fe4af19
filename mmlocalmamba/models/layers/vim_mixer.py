"""The mixer of LocalVim: Vim's selective scan along several directions (paper section 4.1, figure 3a)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from mmlocalmamba.directions import scan_orders
from mmlocalmamba.ops import local_causal_conv1d

from .merge import Draw
from .mixer import ScanMixer


class VimMixer(ScanMixer):
    """Scan a sequence of image tokens along K directions and merge the outputs.

    ``in_proj`` gives x and z. Each direction has a causal convolution along its own scan order, and projections and
    scan parameters of its own. The scan's output times SiLU(z) is gated by SCAttn, and the sum goes through
    ``out_proj``. Padding is not zero after the convolution, so it is carried through the scan with the values that it
    gets.

    Args:
        dim: Channels C.
        directions: Names of the K directions.
        d_state: States N per channel.
        ssm_ratio: Ratio of the inner width D to C.
        conv_width: Width of the causal convolution.
        middle_token: Whether the last token is a class token, to be scanned in the middle of every sequence.
        spatial_attn: Whether SCAttn has the paper's spatial gate.
        attn: Whether to have SCAttn.
        search: Mix the directions by learned probabilities (a supernet's block) in place of adding them up.
    """

    PER_DIRECTION: ClassVar[tuple[str, ...]] = (*ScanMixer.PER_DIRECTION, 'conv_weight', 'conv_bias')

    def __init__(
        self,
        dim: int,
        directions: Sequence[str],
        d_state: int = 16,
        ssm_ratio: float = 2.0,
        conv_width: int = 4,
        middle_token: bool = False,
        spatial_attn: bool = False,
        attn: bool = True,
        search: bool = False,
    ) -> None:
        super().__init__(dim, directions, d_state, ssm_ratio, spatial_attn, attn, search)
        self.middle_token = middle_token
        num, inner, bound = len(self.directions), self.d_inner, conv_width**-0.5
        self.conv_weight = nn.Parameter(torch.empty(num, inner, conv_width).uniform_(-bound, bound))
        self.conv_bias = nn.Parameter(torch.empty(num, inner).uniform_(-bound, bound))

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """Mix tokens x (B, H*W, C), with the class token behind them if there is one; returns the same shape."""
        x, z = self.project(x)
        draw = self.merge.draw()
        return self.out_proj(self.merge(self.scan(x, height, width, draw), z, draw=draw))

    def scan(self, x: Tensor, height: int, width: int, draw: Draw | None = None) -> Tensor:
        """Scan tokens x (B, L, D) along the directions; returns (B, K, L, D), tokens in their own places."""
        names, parameters = self.drawn(draw)
        order = scan_orders(names, height, width, middle_token=self.middle_token, device=x.device)
        u = local_causal_conv1d(x, parameters['conv_weight'], parameters['conv_bias'], order)  # (B, L_scan, K, D)
        # Each direction has inputs of its own here, so its projection is a matrix product of its own.
        tokens = u.flatten(0, 1).transpose(0, 1)  # (K, B * L_scan, D)
        projected = torch.bmm(tokens, parameters['x_proj_weight'].to(u.dtype).transpose(1, 2))
        projected = projected.view(len(names), *u.shape[:2], projected.shape[-1]).permute(
            1, 2, 0, 3
        )  # (B, L_scan, K, R + 2N)
        return self.selective_scan(u, projected, parameters, order, num_tokens=x.shape[1])
