"""The mixer of LocalVim: Vim's selective scan along several directions (paper section 4.1, figure 3a)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmlocalmamba.directions import parse_directions, scan_orders
from mmlocalmamba.ops import local_causal_conv1d, local_selective_scan

from .merge import DirectionMerge, DirectionMixture, Draw, select_branches
from .ssm_parameters import dt_rank, initial_a_log, initial_dt_bias, initial_dt_weight


class VimMixer(nn.Module):
    """Scan a sequence of image tokens along K directions and merge the outcomes.

    ``in_proj`` gives x and z. Each direction has a causal convolution along its own scan order, and projections and
    scan parameters of its own; the scan's output times SiLU(z) is gated by SCAttn; the sum goes through ``out_proj``.
    Padding is not zero after the convolution, so it is carried through the scan with the values that it gets.

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
        super().__init__()
        (self.directions,) = parse_directions([directions], 1)
        num, inner, rank = len(self.directions), int(ssm_ratio * dim), dt_rank(dim)
        self.d_inner, self.d_state, self.dt_rank = inner, d_state, rank
        self.middle_token = middle_token
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        bound = conv_width**-0.5
        self.conv_weight = nn.Parameter(torch.empty(num, inner, conv_width).uniform_(-bound, bound))
        self.conv_bias = nn.Parameter(torch.empty(num, inner).uniform_(-bound, bound))
        self.x_proj_weight = nn.Parameter(
            torch.empty(num, rank + 2 * d_state, inner).uniform_(-(inner**-0.5), inner**-0.5)
        )
        self.dt_proj_weight = initial_dt_weight(num, inner, rank)
        self.dt_proj_bias = initial_dt_bias(num, inner)
        self.A_log = initial_a_log(num, inner, d_state)
        self.D = nn.Parameter(torch.ones(num, inner))
        self.merge = (
            DirectionMixture(inner, num, spatial_attn, attn) if search else DirectionMerge(inner, spatial_attn, attn)
        )
        self.out_proj = nn.Linear(inner, dim, bias=False)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """Mix tokens x (B, H*W, C), with the class token behind them if there is one; returns the same shape."""
        x, z = self.in_proj(x).chunk(2, -1)
        if isinstance(self.merge, DirectionMixture):
            draw = self.merge.draw()
            return self.out_proj(self.merge(self.scan(x, height, width, draw), z, draw=draw))
        return self.out_proj(self.merge(self.scan(x, height, width), z))

    def scan(self, x: Tensor, height: int, width: int, draw: Draw | None = None) -> Tensor:
        """Scan tokens x (B, L, D) along the directions; returns (B, K, L, D), tokens in their own places.

        Args:
            x: The tokens.
            height: Rows of the map.
            width: Columns of the map.
            draw: The directions to scan along. Default: all.
        """
        names = self.directions if draw is None else [self.directions[k] for k in draw.branches]
        conv_weight, conv_bias, x_proj_weight, dt_proj_weight, A_log, D, dt_proj_bias = select_branches(
            draw,
            self.conv_weight,
            self.conv_bias,
            self.x_proj_weight,
            self.dt_proj_weight,
            self.A_log,
            self.D,
            self.dt_proj_bias,
        )
        order = scan_orders(names, height, width, middle_token=self.middle_token, device=x.device)
        u = local_causal_conv1d(x, conv_weight, conv_bias, order)  # (B, L_scan, K, D)
        batch, length, directions, _ = u.shape
        tokens = u.flatten(0, 1).transpose(0, 1)  # (K, B * L_scan, D)
        projected = torch.bmm(tokens, x_proj_weight.to(u.dtype).transpose(1, 2))
        projected = projected.view(directions, batch, length, -1).permute(1, 2, 0, 3)
        dt, B, C = projected.split([self.dt_rank, self.d_state, self.d_state], -1)
        parameters = torch.promote_types(D.dtype, torch.float32)
        return local_selective_scan(
            u.to(dt.dtype),
            dt,
            A_log.to(parameters),
            B,
            C,
            D.to(parameters),
            dt_proj_bias.to(parameters),
            order,
            num_tokens=x.shape[1],
            dt_weight=dt_proj_weight,
            log_A=True,
        )
