"""The Triton side of :func:`mmlocalmamba.ops.depthwise_conv2d_silu`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from ...tokens import unit_stride
from . import depthwise_conv_kernels as kernels
from .launch import ceil_div, compute_dtype, compute_type, launch, power_of_two, tuned


class Grid(NamedTuple):
    """How a map is shared among programs.

    Attributes:
        programs: Number of programs: blocks of channels x tiles of columns x strips of rows, and images.
        parts: Tiles x strips.
        rows: Rows of a strip.
        tiles: Tiles of columns.
        columns: Columns of a tile.
        channels: Channels of a block.
    """

    programs: tuple[int, int]
    parts: int
    rows: int
    tiles: int
    columns: int
    channels: int


@dataclass(frozen=True)
class Settings:
    """Sizes of the work of one program.

    Attributes:
        columns: Most columns of a tile; a power of two.
        channels: Most channels of a block; a power of two.
        programs: How many programs there should be: long strips read fewer rows twice, and write fewer partial sums.
        strip: Fewest rows of a strip.
        warps: Warps of a program.
    """

    columns: int = 8
    channels: int = 64
    programs: int = 4096
    strip: int = 8
    warps: int = 4

    def grid(self, batch: int, height: int, width: int, channels: int) -> Grid:
        """Share a map among programs."""
        columns = min(self.columns, power_of_two(width))
        block = min(self.channels, power_of_two(channels))
        blocks, tiles = ceil_div(channels, block), ceil_div(width, columns)
        rows = ceil_div(height * tiles * blocks * max(batch, 1), self.programs)
        rows = max(1, min(max(rows, self.strip), height))
        parts = tiles * ceil_div(height, rows)
        return Grid((blocks * parts, batch), parts, rows, tiles, columns, block)


SETTINGS = Settings()


def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute the outputs; arguments as in the operation's schema."""
    return _convolve(unit_stride(x), weight.contiguous(), bias.contiguous())


def backward(grad_y: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> list[Tensor]:
    """Compute the gradients, in the order of the operation's arguments."""
    settings = tuned('depthwise_conv', SETTINGS, *x.shape)
    grid = settings.grid(*x.shape)
    batch, height, width, channels = x.shape
    x, grad_y, weight = unit_stride(x), unit_stride(grad_y), weight.contiguous()
    grad = x.new_empty(x.shape)
    partial = x.new_empty(batch, grid.parts, 10, channels, dtype=compute_dtype(x))
    launch(
        kernels.slope_kernel, grid.programs,
        grad_y, x, weight, bias.contiguous(), grad, partial,
        height, width, channels, grid.rows, grid.tiles, *grad_y.stride()[:3], *x.stride()[:3],
        TILE=grid.columns, BLOCK=grid.channels, warps=settings.warps,
    )  # fmt: skip
    grad_weight = partial[:, :, :9].sum((0, 1)).t().reshape(weight.shape)
    grad_bias = partial[:, :, 9].sum((0, 1))
    return [_convolve(grad, weight, None), grad_weight.to(weight.dtype), grad_bias.to(bias.dtype)]


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve, add the bias and apply SiLU; without a bias, only convolve by the transposed kernel."""
    settings = tuned('depthwise_conv', SETTINGS, *x.shape)
    grid = settings.grid(*x.shape)
    _, height, width, channels = x.shape
    y = x.new_empty(x.shape)
    launch(
        kernels.conv_kernel, grid.programs,
        x, weight, weight if bias is None else bias, y,
        height, width, channels, grid.rows, grid.tiles, *x.stride()[:3],
        ACTIVATE=bias is not None, FLIP=bias is None, COMPUTE=compute_type(x),
        TILE=grid.columns, BLOCK=grid.channels, warps=settings.warps,
    )  # fmt: skip
    return y
