"""What tells LocalVim where a token is: resizable position tables, also those of the 2-D rotary embedding."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mmlocalmamba.ops import resize_map

PRETRAINED_GRID = 14
"""Side in patches of the grid (224 pixels) whose positions 0..13 the rotary frequencies were made for."""


def resize_table(table: Tensor, size: tuple[int, int], new_size: tuple[int, int]) -> Tensor:
    """Resize a table of per-position vectors bicubically.

    Args:
        table: (..., h*w, C), positions row-major.
        size: (h, w) of the table.
        new_size: Size wanted.

    Returns:
        (..., new_h * new_w, C) in the table's dtype.
    """
    # A symbolic size is not compared: an exported model would then exclude the size of the table.
    if not any(isinstance(side, torch.SymInt) for side in new_size) and size == new_size:
        return table
    leading, channels = table.shape[:-2], table.shape[-1]
    grid = table.float().reshape(-1, *size, channels).permute(0, 3, 1, 2)
    return resize_map(grid, new_size).permute(0, 2, 3, 1).reshape(*leading, -1, channels).to(table.dtype)


def square_grid(positions: int) -> int:
    """Give the side of a square grid of that many positions; ValueError if there is none."""
    side = math.isqrt(positions)
    if side * side != positions:
        raise ValueError(f'a position table of {positions} positions is not square, so its grid is not known')
    return side


def rotary_tables(grid: int, dim: int) -> tuple[Tensor, Tensor]:
    """Give cosine and sine tables of the 2-D rotary embedding, float32 (grid*grid, dim) each.

    The first half of the channels turns with the row, the second with the column, at frequencies
    10000^(-2i / (dim / 2)) repeated in pairs; positions are ``arange(grid) * 14 / grid``.
    """
    half = dim // 2
    frequencies = 10000.0 ** (-torch.arange(0, half, 2)[: half // 2].float() / half)
    positions = torch.arange(grid).float() * PRETRAINED_GRID / grid
    angles = (positions[:, None] * frequencies).repeat_interleave(2, dim=-1)  # (grid, dim / 2)
    rows, columns = angles[:, None].expand(-1, grid, -1), angles[None].expand(grid, -1, -1)
    table = torch.cat([rows, columns], -1).reshape(grid * grid, dim)
    return table.cos(), table.sin()


class Rotary2d(nn.Module):
    """Tables that rotate interleaved pairs of channels by angles that depend on the token's row and column.

    :func:`mmlocalmamba.ops.add_rotate_rms_norm` rotates by them.

    Args:
        dim: Channels C, a multiple of 4.
        grid: Side of the square grid, in patches, at which the tables are made. They are resized bicubically to any
            other grid.

    Raises:
        ValueError: If ``dim`` is no multiple of 4.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, dim: int, grid: int) -> None:
        super().__init__()
        if dim % 4:
            raise ValueError(f'rotary position embedding needs channels in multiples of 4, got {dim}: pass rope=False')
        self.grid = grid
        cos, sin = rotary_tables(grid, dim)
        # Recomputed from a formula, hence never a part of a checkpoint.
        self.register_buffer('cos', cos, persistent=False)
        self.register_buffer('sin', sin, persistent=False)

    def tables(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Give both tables for a map of that size, (h*w, C) each."""
        grid = (self.grid, self.grid)
        return resize_table(self.cos, grid, size), resize_table(self.sin, grid, size)
