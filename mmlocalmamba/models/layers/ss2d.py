"""The mixer of LocalVMamba and VMamba: a 2-D selective scan along several directions (paper sections 4.1 and 4.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from mmlocalmamba.directions import scan_orders
from mmlocalmamba.ops import depthwise_conv2d_silu

from .merge import Draw
from .mixer import ScanMixer


class SS2D(ScanMixer):
    """Scan a feature map along K directions and merge the outputs.

    ``in_proj`` gives x and, with a gate, z. A depth-wise 3 x 3 convolution and SiLU are applied to x. Then x is scanned
    along every direction, each with parameters of its own. The outputs are gated by SCAttn, added up, normalised,
    multiplied by SiLU(z) if there is a gate, and projected by ``out_proj``. The projections to step sizes, B and C are
    point-wise, so those of all directions are one matrix product on tokens in their own places.

    Args:
        dim: Channels C.
        directions: Names of the K directions.
        d_state: States N per channel.
        ssm_ratio: Ratio of the inner width D to C.
        spatial_attn: Whether SCAttn has the paper's spatial gate.
        attn: Whether to have SCAttn.
        search: Mix the directions by learned probabilities (a supernet's block) in place of adding them up.
        gate: Whether there is the branch z, as in LocalVMamba and in VMamba's first version.
        conv_bias: Whether the convolution has a bias, as in the same ones.
    """

    def __init__(
        self,
        dim: int,
        directions: Sequence[str],
        d_state: int = 16,
        ssm_ratio: float = 2.0,
        spatial_attn: bool = False,
        attn: bool = True,
        search: bool = False,
        gate: bool = True,
        conv_bias: bool = True,
    ) -> None:
        super().__init__(dim, directions, d_state, ssm_ratio, spatial_attn, attn, search, gate)
        self.conv = nn.Conv2d(self.d_inner, self.d_inner, 3, padding=1, groups=self.d_inner, bias=conv_bias)
        self.out_norm = nn.LayerNorm(self.d_inner)

    def forward(self, x: Tensor) -> Tensor:
        """Mix a map x (B, H, W, C); returns the same shape."""
        height, width = x.shape[1:3]
        x, z = self.project(x)
        x = depthwise_conv2d_silu(x, self.conv.weight, self.conv.bias)
        draw = self.merge.draw()
        y = self.scan(x.flatten(1, 2), height, width, draw)
        y = self.merge(y, z if z is None else z.flatten(1, 2), self.out_norm, draw)
        return self.out_proj(y.view(y.shape[0], height, width, self.d_inner))

    def scan(self, x: Tensor, height: int, width: int, draw: Draw | None = None) -> Tensor:
        """Scan tokens x (B, H*W, D) along the directions; returns (B, K, H*W, D), tokens in their own places."""
        names, parameters = self.drawn(draw)
        projected = F.linear(x, parameters['x_proj_weight'].flatten(0, 1))
        projected = projected.view(*x.shape[:2], len(names), self.dt_rank + 2 * self.d_state)
        order = scan_orders(names, height, width, device=x.device)
        return self.selective_scan(x, projected, parameters, order, num_tokens=x.shape[1])
