"""What the mixers of all backbones have in common: projections, parameters per direction, scan and merge."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from mmlocalmamba.directions import parse_directions
from mmlocalmamba.ops import ScanInputs, local_selective_scan

from .merge import DirectionMerge, DirectionMixture, Draw
from .ssm_parameters import dt_rank, init_linear, initial_a_log, initial_dt_bias, initial_dt_weight


class ScanMixer(nn.Module, ABC):
    """Base of the mixers: scan tokens along K directions, each with parameters of its own, and merge the outputs.

    A subclass says in its ``forward`` what happens to the tokens before the scan, and in which order the outputs are
    normalised and gated. It extends :attr:`PER_DIRECTION` if it adds parameters per direction.

    Args:
        dim: Channels C.
        directions: Names of the K directions.
        d_state: States N per channel.
        ssm_ratio: Ratio of the inner width D to C.
        spatial_attn: Whether SCAttn has the paper's spatial gate.
        attn: Whether to have SCAttn.
        search: Mix the directions by learned probabilities (a supernet's block) in place of adding them up.
        gate: Whether ``in_proj`` gives a gating branch z beside x.

    Raises:
        ValueError: If a direction is unknown or repeated, or ``spatial_attn`` is asked for without ``attn``.
    """

    PER_DIRECTION: ClassVar[tuple[str, ...]] = ('x_proj_weight', 'dt_proj_weight', 'dt_proj_bias', 'A_log', 'D')
    """Names of the parameters whose first axis is the direction."""

    def __init__(
        self,
        dim: int,
        directions: Sequence[str],
        d_state: int,
        ssm_ratio: float,
        spatial_attn: bool,
        attn: bool,
        search: bool,
        gate: bool = True,
    ) -> None:
        super().__init__()
        (self.directions,) = parse_directions([directions], 1)
        num, inner, rank = len(self.directions), int(ssm_ratio * dim), dt_rank(dim)
        self.d_inner, self.d_state, self.dt_rank, self.gate = inner, d_state, rank, gate
        bound = inner**-0.5
        self.in_proj = nn.Linear(dim, 2 * inner if gate else inner, bias=False)
        self.x_proj_weight = nn.Parameter(torch.empty(num, rank + 2 * d_state, inner).uniform_(-bound, bound))
        self.dt_proj_weight = initial_dt_weight(num, inner, rank)
        self.dt_proj_bias = initial_dt_bias(num, inner)
        self.A_log = initial_a_log(num, inner, d_state)
        self.D = nn.Parameter(torch.ones(num, inner))
        self.merge = (
            DirectionMixture(inner, num, spatial_attn, attn) if search else DirectionMerge(inner, spatial_attn, attn)
        )
        self.out_proj = nn.Linear(inner, dim, bias=False)

    def init_published(self) -> None:
        """Draw the linear layers as the published LocalVim does, the output projection excepted.

        Weights are truncated normal with a standard deviation of 0.02. Biases are 0, those of the step sizes too, so
        that these start at softplus(0). The convolution, A, D and the norms keep the values of construction.
        """
        for weight in (self.in_proj.weight, self.x_proj_weight, self.dt_proj_weight):
            nn.init.trunc_normal_(weight, std=0.02)
        nn.init.zeros_(self.dt_proj_bias)
        self.merge.apply(init_linear)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Project (..., C) to what is scanned and to the gating branch, (..., D) each; the latter if there is one."""
        projected = self.in_proj(x)
        if not self.gate:
            return projected, None
        x, z = projected.chunk(2, -1)
        return x, z

    @abstractmethod
    def scan(self, x: Tensor, height: int, width: int, draw: Draw | None = None) -> Tensor:
        """Scan tokens x (B, L, D) along the directions; returns (B, K, L, D), tokens in their own places.

        Args:
            x: The tokens, L = height * width of them, and those that the subclass adds.
            height: Rows of the map.
            width: Columns of the map.
            draw: The directions to scan along. Default: all.
        """

    def drawn(self, draw: Draw | None) -> tuple[tuple[str, ...], dict[str, Tensor]]:
        """Give the names of the drawn directions, and their part of each parameter by its name; all for None."""
        parameters = {name: getattr(self, name) for name in self.PER_DIRECTION}
        if draw is None:
            return self.directions, parameters
        names = tuple(self.directions[k] for k in draw.branches)
        return names, {name: value[draw.branches] for name, value in parameters.items()}

    def selective_scan(
        self, u: Tensor, projected: Tensor, parameters: dict[str, Tensor], order: Tensor, num_tokens: int
    ) -> Tensor:
        """Run the scan in full precision of its parameters; returns (B, K, L, D).

        Args:
            u: Inputs of the scan, (B, L, D) in spatial order or (B, L_scan, K, D) in scan order.
            projected: Step sizes at low rank, B and C, side by side: (B, L or L_scan, K, R + 2N).
            parameters: From :meth:`drawn`.
            order: int32 (K, L_scan) from :func:`mmlocalmamba.directions.scan_orders`.
            num_tokens: Number of tokens L.
        """
        dt, B, C = projected.split([self.dt_rank, self.d_state, self.d_state], -1)
        D = parameters['D']
        precision = torch.promote_types(D.dtype, torch.float32)
        inputs = ScanInputs(
            u=u.to(dt.dtype),
            dt=dt,
            A=parameters['A_log'].to(precision),
            B=B,
            C=C,
            D=D.to(precision),
            dt_bias=parameters['dt_proj_bias'].to(precision),
            order=order,
            num_tokens=num_tokens,
            dt_weight=parameters['dt_proj_weight'],
            log_A=True,
        )
        return local_selective_scan(inputs)
