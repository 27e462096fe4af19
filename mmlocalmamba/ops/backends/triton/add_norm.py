"""The Triton side of :func:`mmlocalmamba.ops.add_rotate_rms_norm`."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ...add_norm import empty_outputs
from ...tokens import unit_stride
from . import add_norm_kernels as kernels
from .launch import RowTile, ceil_div, cut, launch, row_tile, tuned


@dataclass(frozen=True)
class Settings:
    """Sizes of the work of one program.

    Attributes:
        vector: Bytes of the residual stream that a thread loads at once.
        warps: Fewest warps of a program.
        programs: Most programs of the backward, each of which writes a part of the gradient of the weight.
    """

    vector: int = 16
    warps: int = 4
    programs: int = 1024

    def tile(self, residual: Tensor) -> RowTile:
        """Share rows among threads; the channels of a pair must lie in one tile."""
        return row_tile(max(residual.shape[-1], 2), residual, self.vector, self.warps)


SETTINGS = Settings()


def forward(
    hidden: Tensor, before: Tensor | None, weight: Tensor, eps: float, cos: Tensor | None, sin: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Compute the outputs; arguments as in the operation's schema."""
    normed, residual = empty_outputs(hidden, before, weight)
    batch, tokens, channels = hidden.shape
    count = batch * tokens
    tile = tuned('add_norm', SETTINGS, count, channels).tile(residual)
    hidden = unit_stride(hidden)
    added = hidden if before is None else unit_stride(before)
    launch(
        kernels.forward_kernel, (ceil_div(count, tile.rows),),
        hidden, added, weight.contiguous(), *_tables(cos, sin, hidden), normed, residual,
        count, tokens, channels, *hidden.stride()[:2], *added.stride()[:2],
        EPS=eps, ADD=before is not None, ROTATE=cos is not None, ROWS=tile.rows, BLOCK=tile.channels, warps=tile.warps,
    )  # fmt: skip
    return normed, residual


def backward(
    grad_normed: Tensor,
    grad_residual: Tensor,
    residual: Tensor,
    weight: Tensor,
    cos: Tensor | None,
    sin: Tensor | None,
    eps: float,
) -> list[Tensor]:
    """Compute the gradients, in the order of the operation's arguments."""
    batch, tokens, channels = residual.shape
    count = batch * tokens
    settings = tuned('add_norm', SETTINGS, count, channels)
    tile = settings.tile(residual)
    chunks = cut(count, tile.rows, settings.programs)
    grad_normed, grad_residual, residual = (unit_stride(x) for x in (grad_normed, grad_residual, residual))
    grad_sum = residual.new_empty(residual.shape)
    partial = residual.new_empty(chunks.count, channels)
    launch(
        kernels.backward_kernel, (chunks.count,),
        grad_normed, grad_residual, residual, weight.contiguous(), *_tables(cos, sin, residual), grad_sum, partial,
        count, tokens, channels, chunks.size,
        *grad_normed.stride()[:2], *grad_residual.stride()[:2], *residual.stride()[:2],
        EPS=eps, ROTATE=cos is not None, ROWS=tile.rows, BLOCK=tile.channels, warps=tile.warps,
    )  # fmt: skip
    return [grad_sum, partial.sum(0).to(weight.dtype)]


def _tables(cos: Tensor | None, sin: Tensor | None, unused: Tensor) -> tuple[Tensor, Tensor]:
    """Give the rotary tables, or any tensor in their place where nothing is rotated."""
    return (unused if cos is None else cos.contiguous()), (unused if sin is None else sin.contiguous())
