"""Vim's own mixer: a sequence scanned forwards and backwards (Zhu et al., Vision Mamba, 2024, algorithm 1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .merge import DirectionMerge, Draw
from .vim_mixer import VimMixer

DIRECTIONS = ('h', 'h_flip')
"""Forwards and backwards: a sequence is a map of one row."""


class MeanMerge(DirectionMerge):
    """Average the directions, without SCAttn.

    Args:
        dim: Channels C.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, attn=False)

    def gate_and_merge(self, y: Tensor, z: Tensor, draw: Draw | None) -> Tensor:
        """Average the directions (B, K, L, C), and multiply the mean by SiLU(z): the gate is the same for all."""
        return self.add_up(y, draw) * F.silu(z)

    def add_up(self, y: Tensor, draw: Draw | None) -> Tensor:
        """Average the directions (B, K, L, C); returns (B, L, C)."""
        return y.mean(1)


class BidirectionalMixer(VimMixer):
    """Scan a sequence of tokens in both directions, each with parameters of its own, and average the outputs.

    A class token is a token like any other, at its place in the sequence.

    Args:
        dim: Channels C.
        d_state: States N per channel.
        ssm_ratio: Ratio of the inner width D to C.
    """

    def __init__(self, dim: int, d_state: int = 16, ssm_ratio: float = 2.0) -> None:
        super().__init__(dim, DIRECTIONS, d_state, ssm_ratio, attn=False)
        self.merge = MeanMerge(self.d_inner)
