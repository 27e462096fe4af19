"""The mixer of LocalVMamba: a 2-D selective scan along several directions (paper sections 4.1 and 4.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlocalmamba.directions import parse_directions, scan_orders
from mmlocalmamba.ops import depthwise_conv2d_silu, local_selective_scan

from .merge import DirectionMerge, DirectionMixture, Draw, select_branches
from .ssm_parameters import dt_rank, initial_a_log, initial_dt_bias, initial_dt_weight


class SS2D(nn.Module):
    """Scan a feature map along K directions and merge the outcomes.

    ``in_proj`` gives x and z; x passes a depth-wise 3 x 3 convolution and SiLU, is scanned along every direction with
    parameters of its own, gated by SCAttn, summed and normalised; times SiLU(z); ``out_proj``. The projections of step
    sizes, B and C are point-wise, so those of all directions are one matrix product on tokens in their own places.

    Args:
        dim: Channels C.
        directions: Names of the K directions.
        d_state: States N per channel.
        ssm_ratio: Ratio of the inner width D to C.
        spatial_attn: Whether SCAttn has the paper's spatial gate.
        attn: Whether to have SCAttn.
        search: Mix the directions by learned probabilities (a supernet's block) in place of adding them up.
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
    ) -> None:
        super().__init__()
        (self.directions,) = parse_directions([directions], 1)
        num, inner, rank = len(self.directions), int(ssm_ratio * dim), dt_rank(dim)
        self.d_inner, self.d_state, self.dt_rank = inner, d_state, rank
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        self.conv = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.x_proj_weight = nn.Parameter(torch.empty(num, rank + 2 * d_state, inner))
        self.dt_proj_weight = initial_dt_weight(num, inner, rank)
        self.dt_proj_bias = initial_dt_bias(num, inner)
        self.A_log = initial_a_log(num, inner, d_state)
        self.D = nn.Parameter(torch.ones(num, inner))
        self.merge = (
            DirectionMixture(inner, num, spatial_attn, attn) if search else DirectionMerge(inner, spatial_attn, attn)
        )
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, dim, bias=False)
        nn.init.uniform_(self.x_proj_weight, -(inner**-0.5), inner**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Mix a map x (B, H, W, C); returns the same shape."""
        height, width = x.shape[1:3]
        x, z = self.in_proj(x).chunk(2, -1)
        x = depthwise_conv2d_silu(x, self.conv.weight, self.conv.bias)  # type: ignore[arg-type]  # it has a bias
        x, z = x.flatten(1, 2), z.flatten(1, 2)
        if isinstance(self.merge, DirectionMixture):
            draw = self.merge.draw()
            y = self.merge(self.scan(x, height, width, draw), z, self.out_norm, draw)
        else:
            y = self.merge(self.scan(x, height, width), z, self.out_norm)
        return self.out_proj(y.unflatten(1, (height, width)))

    def scan(self, x: Tensor, height: int, width: int, draw: Draw | None = None) -> Tensor:
        """Scan tokens x (B, H*W, D) along the directions; returns (B, K, H*W, D), tokens in their own places.

        Args:
            x: The tokens.
            height: Rows of the map.
            width: Columns of the map.
            draw: The directions to scan along. Default: all.
        """
        batch, length, _ = x.shape
        names = self.directions if draw is None else [self.directions[k] for k in draw.branches]
        directions = len(names)
        x_proj_weight, dt_proj_weight, A_log, D, dt_proj_bias = select_branches(
            draw, self.x_proj_weight, self.dt_proj_weight, self.A_log, self.D, self.dt_proj_bias
        )
        projected = F.linear(x, x_proj_weight.flatten(0, 1)).view(batch, length, directions, -1)
        dt, B, C = projected.split([self.dt_rank, self.d_state, self.d_state], -1)
        parameters = torch.promote_types(D.dtype, torch.float32)
        return local_selective_scan(
            x.to(dt.dtype),
            dt,
            A_log.to(parameters),
            B,
            C,
            D.to(parameters),
            dt_proj_bias.to(parameters),
            scan_orders(names, height, width, device=x.device),
            dt_weight=dt_proj_weight,
            log_A=True,
        )
