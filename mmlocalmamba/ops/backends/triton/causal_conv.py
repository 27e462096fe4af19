"""The Triton side of :func:`mmlocalmamba.ops.local_causal_conv1d`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...tokens import unit_stride
from . import causal_conv_kernels as kernels
from .launch import ceil_div, compute_dtype, compute_type, cut, launch, power_of_two, tuned

INVERT_TILE = 256
"""Steps that one program inverts."""


@dataclass(frozen=True)
class Settings:
    """Sizes of the work of one program.

    Attributes:
        vector: Bytes of each tap that a thread loads at once, which says how many steps or tokens a tile has.
        channels: Most channels of a block; a power of two.
        programs: Most programs of the kernel that sums over steps, each of which writes a partial sum.
        warps: Warps of a program.
    """

    vector: int = 16
    channels: int = 64
    programs: int = 4096
    warps: int = 4


SETTINGS = Settings()


class _Sizes:
    """Sizes of one problem, and of the tiles that it is cut into."""

    def __init__(self, x: Tensor, weight: Tensor, order: Tensor) -> None:
        self.batch, self.tokens = x.shape[:2]
        self.length, self.item_size = order.shape[1], x.element_size()
        self.directions, self.channels, self.width = weight.shape
        sizes = (self.batch, self.tokens, self.length, *weight.shape, self.item_size)
        self.settings: Settings = tuned('causal_conv', SETTINGS, *sizes)

    @property
    def block(self) -> int:
        return min(self.settings.channels, power_of_two(self.channels))

    @property
    def blocks(self) -> int:
        return ceil_div(self.channels, self.block)

    def tile(self, count: int) -> int:
        """Give the length of a tile of so many steps or tokens."""
        numbers = 32 * self.settings.warps * max(self.settings.vector // self.item_size, 1)
        return min(max(numbers // self.block, 1), power_of_two(count))

    def constants(self, count: int) -> dict[str, Any]:
        """Give the compile-time constants of kernels over so many steps or tokens."""
        return dict(WIDTH=self.width, TILE=self.tile(count), BLOCK=self.block, warps=self.settings.warps)


def forward(x: Tensor, weight: Tensor, bias: Tensor, order: Tensor) -> Tensor:
    """Compute the outputs; arguments as in the operation's schema."""
    sizes = _Sizes(x, weight, order)
    x = unit_stride(x)
    y = x.new_empty(sizes.batch, sizes.length, sizes.directions, sizes.channels)
    launch(
        kernels.forward_kernel,
        (sizes.blocks * ceil_div(sizes.length, sizes.tile(sizes.length)), sizes.directions, sizes.batch),
        x, weight.contiguous(), bias.contiguous(), order.contiguous(), y,
        sizes.tokens, sizes.length, sizes.channels, *x.stride()[:2],
        COMPUTE=compute_type(x), TAPS=power_of_two(sizes.width), **sizes.constants(sizes.length),
    )  # fmt: skip
    return y


def backward(grad_y: Tensor, x: Tensor, weight: Tensor, bias: Tensor, order: Tensor) -> list[Tensor]:
    """Compute the gradients, in the order of the operation's arguments."""
    sizes = _Sizes(x, weight, order)
    x, grad_y, order, weight = unit_stride(x), unit_stride(grad_y), order.contiguous(), weight.contiguous()
    most = sizes.settings.programs // max(sizes.blocks * sizes.directions * sizes.batch, 1)
    chunks = cut(sizes.length, sizes.tile(sizes.length), most)
    grad = x.new_empty(grad_y.shape)
    partial = x.new_empty(
        chunks.count, sizes.batch, sizes.directions, sizes.channels, sizes.width + 1, dtype=compute_dtype(x)
    )
    launch(
        kernels.slope_kernel, (sizes.blocks * chunks.count, sizes.directions, sizes.batch),
        grad_y, x, weight, bias.contiguous(), order, grad, partial,
        sizes.tokens, sizes.length, sizes.channels, chunks.size, *grad_y.stride()[:3], *x.stride()[:2],
        TAPS=power_of_two(sizes.width), **sizes.constants(sizes.length),
    )  # fmt: skip
    grad_weight = partial[..., :-1].sum((0, 1)).to(weight.dtype)
    grad_bias = partial[..., -1].sum((0, 1)).to(bias.dtype)
    return [_grad_tokens(grad, x, weight, order, sizes), grad_weight, grad_bias]


def _grad_tokens(grad: Tensor, x: Tensor, weight: Tensor, order: Tensor, sizes: _Sizes) -> Tensor:
    """Collect each token's gradient from all directions, in one order."""
    inverse = torch.full((sizes.directions, sizes.tokens), -1, dtype=torch.int32, device=x.device)
    launch(
        kernels.invert_kernel, (ceil_div(sizes.length, INVERT_TILE), sizes.directions),
        order, inverse, sizes.tokens, sizes.length, TILE=INVERT_TILE, warps=4,
    )  # fmt: skip
    grad_x = x.new_empty(x.shape)
    launch(
        kernels.gather_kernel, (sizes.blocks * ceil_div(sizes.tokens, sizes.tile(sizes.tokens)), sizes.batch),
        grad, weight.transpose(1, 2).contiguous(), inverse, grad_x,
        sizes.tokens, sizes.length, sizes.channels, sizes.directions,
        COMPUTE=compute_type(x), **sizes.constants(sizes.tokens),
    )  # fmt: skip
    return grad_x
