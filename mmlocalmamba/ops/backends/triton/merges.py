"""What both merges have in common on the Triton side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...channel_gate import ChannelGate
from . import merge_kernels as kernels
from .launch import Chunks, RowTile, ceil_div, cut, launch, power_of_two, row_tile, tuned


@dataclass(frozen=True)
class Settings:
    """Sizes of the work of one program.

    Attributes:
        vector: Bytes of each direction that a thread loads at once.
        warps: Fewest warps of a program.
        programs: Most programs that sum over tokens; there are as many partial sums.
        rows: Rows (one direction of one image each) that share one reading of the gate's weights, where there are many.
        many: How many rows are many.
        chunks: Partial sums that are added at once.
        outputs: Outputs of the gate's layers per program.
        inputs: Inputs of the gate's layers that are read at once.
    """

    vector: int = 16
    warps: int = 4
    programs: int = 512
    rows: int = 4
    many: int = 128
    chunks: int = 32
    outputs: int = 16
    inputs: int = 64


SETTINGS = Settings()


class Scans:
    """Scans of one call, and how they are shared among programs.

    Args:
        operation: Name of the operation's module.
        y: Scans (Bt, K, L, D), their channels next to each other.
        z: (Bt, L, D), likewise.
        z_first: Whether z gates the scans before everything else.
    """

    def __init__(self, operation: str, y: Tensor, z: Tensor, z_first: bool) -> None:
        self.y, self.z = y, z
        self.batch, self.directions, self.tokens, self.channels = y.shape
        self.settings: Settings = tuned(operation, SETTINGS, *y.shape)
        self.tile: RowTile = row_tile(self.channels, y, self.settings.vector, self.settings.warps)
        self.z_first = z_first

    @property
    def chunks(self) -> Chunks:
        """How tokens are cut for sums over them."""
        return cut(self.tokens, self.tile.rows, self.settings.programs // max(self.batch, 1))

    @property
    def sizes(self) -> tuple[int, int]:
        """Tokens and channels."""
        return self.tokens, self.channels

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of y and z, without those of channels."""
        return (*self.y.stride()[:3], *self.z.stride()[:2])

    @property
    def grid(self) -> tuple[int, int]:
        """One program for every few tokens."""
        return ceil_div(self.tokens, self.tile.rows), self.batch

    def constants(self, eps: float) -> dict[str, Any]:
        """Give the compile-time constants of the kernels over tokens."""
        tile, directions = self.tile, self.directions
        sizes = dict(K=directions, ALL=power_of_two(directions), TILE=tile.rows, BLOCK=tile.channels)
        return dict(**sizes, EPS=eps, Z_FIRST=self.z_first, warps=tile.warps)


def compute_gates(scans: Scans, gate: ChannelGate, mean: Tensor, gates: Tensor) -> None:
    """Fill ``mean`` and ``gates`` (Bt, K, D) from scans: three launches."""
    settings, channels = scans.settings, scans.channels
    rows, hidden_dim = scans.batch * scans.directions, gate.reduce_bias.shape[0]
    norm_weight, norm_bias, *layers = (weight.contiguous() for weight in gate.tensors)
    partial = mean.new_empty(scans.chunks.count, *mean.shape)
    launch(
        kernels.mean_kernel, (scans.chunks.count, scans.batch),
        scans.y, scans.z, partial, *scans.sizes, scans.chunks.size, *scans.strides, **scans.constants(gate.eps),
    )  # fmt: skip
    hidden = mean.new_empty(rows, hidden_dim)
    shared = settings.rows if rows >= settings.many else 1
    tiles = ceil_div(rows, shared)
    sizes = dict(ROWS=shared, OUT=settings.outputs, warps=settings.warps)
    launch(
        kernels.hidden_kernel, (ceil_div(hidden_dim, settings.outputs), tiles),
        partial, mean, hidden, norm_weight, norm_bias, *layers[:2],
        max(scans.tokens, 1), rows, channels, hidden_dim, scans.chunks.count,
        **sizes, CHUNKS=max(settings.chunks // shared, 1), BLOCK=min(settings.inputs, power_of_two(channels)),
    )  # fmt: skip
    launch(
        kernels.gate_kernel, (ceil_div(channels, settings.outputs), tiles),
        hidden, gates, *layers[2:], rows, channels, hidden_dim,
        **sizes, BLOCK=min(settings.inputs, power_of_two(hidden_dim)),
    )  # fmt: skip


def merge(scans: Scans, gates: Tensor, norm: tuple[Tensor, Tensor], eps: float, out: Tensor) -> None:
    """Fill ``out`` (Bt, L, D); ``norm`` holds weight and bias of the sum's norm, or any tensors with ``z_first``."""
    arguments = (scans.y, scans.z, gates, *norm, out, *scans.sizes, *scans.strides)
    launch(kernels.merge_kernel, scans.grid, *arguments, **scans.constants(eps))


def sum_grad_gates(
    scans: Scans,
    grad_out: Tensor,
    gates: Tensor,
    norm: tuple[Tensor, Tensor],
    eps: float,
    grad_sum: Tensor,
    grad_z: Tensor,
) -> Tensor:
    """Give the partial sums of the gates' gradients; without ``z_first``, fill ``grad_sum`` and ``grad_z``.

    Returns:
        (chunks, Bt, K, D); without ``z_first`` (chunks, Bt, K + 2, D), with those of the norm's weight and bias last.
    """
    rows = scans.directions + (0 if scans.z_first else 2)
    partial = gates.new_empty(scans.chunks.count, scans.batch, rows, scans.channels)
    launch(
        kernels.grad_gates_kernel, (scans.chunks.count, scans.batch),
        grad_out, scans.y, scans.z, gates, *norm, grad_sum, grad_z, partial,
        *scans.sizes, scans.chunks.size, *grad_out.stride()[:2], *scans.strides, **scans.constants(eps),
    )  # fmt: skip
    return partial


def grad_scans(scans: Scans, grad_sum: Tensor, gates: Tensor, grad_mean: Tensor, eps: float, grad_z: Tensor) -> Tensor:
    """Give the gradient of y (Bt, K, L, D); with ``z_first``, fill ``grad_z``."""
    grad_y = scans.y.new_empty(scans.y.shape)
    launch(
        kernels.backward_kernel, scans.grid,
        grad_sum, scans.y, scans.z, gates, grad_mean, grad_y, grad_z,
        *scans.sizes, *grad_sum.stride()[:2], *scans.strides, **scans.constants(eps),
    )  # fmt: skip
    return grad_y
