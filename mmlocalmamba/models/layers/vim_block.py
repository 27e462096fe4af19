"""The block of the plain backbones, in Vim's order: the residual is added first, then normalised, then mixed."""

from __future__ import annotations

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from mmlocalmamba.ops import add_rotate_rms_norm

from .vim_mixer import VimMixer

NORM_EPS = 1e-5


class VimBlock(nn.Module):
    """One block: ``residual += hidden; hidden = Mixer(RMSNorm(residual))``.

    With RoPE, both are rotated first. A rotation is linear, so their sum is rotated in their place.

    Args:
        dim: Channels C.
        mixer: Maps tokens (B, L, C) and the size of their map to the same shape.
        drop_path: Probability of dropping ``hidden`` before it is added.
    """

    def __init__(self, dim: int, mixer: VimMixer, drop_path: float) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(dim, eps=NORM_EPS)
        self.mixer = mixer
        self.drop_path = DropPath(drop_path)

    def forward(
        self,
        hidden: Tensor,
        residual: Tensor | None,
        height: int,
        width: int,
        rotary: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Map hidden and residual, (B, L, C) each, to their next values; the residual is float32 (or float64).

        Args:
            hidden: The last mixer's output.
            residual: The residual stream; None in the first block.
            height: Rows of the map.
            width: Columns of the map.
            rotary: Tables of the rotary embedding, if there is one.
        """
        if residual is not None and self.drop_path.training:
            hidden = self.drop_path(hidden.to(torch.promote_types(hidden.dtype, torch.float32)))
        normed, residual = add_rotate_rms_norm(hidden, residual, self.norm.weight, NORM_EPS, rotary)
        return self.mixer(normed, height, width), residual
