"""The scan as fused Triton kernels, forward and backward: no token is copied into scan order.

A long sequence is cut into segments, so that a single image fills a GPU. A first pass finds what each segment adds to
the state, a short one carries the states from segment to segment, and the last one writes the outputs. The states that
enter the segments are all that the backward needs: it walks once more forwards and once backwards, noting the states at
tiles of a few tokens, and then computes all gradients of every tile at once. Every sum has a fixed order.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ...scan_inputs import ScanGrads, ScanInputs

MIN_CAPABILITY = (7, 0)

TAKES_FACTORS = False


def interpreted() -> bool:
    """Tell whether Triton runs kernels in its interpreter, in this process."""
    return os.environ.get('TRITON_INTERPRET', '0').lower() in ('1', 'true', 'on', 'yes', 'y')


@dataclass(frozen=True)
class Blocks:
    """Sizes of the work of one program.

    Attributes:
        channels: Channels, one per lane of its warp.
        tile: Tokens whose gradients are computed at once.
        segment: Fewest and most tokens of a segment; powers of two and multiples of ``tile``.
    """

    channels: int = 32
    tile: int = 16
    segment: tuple[int, int] = (64, 512)

    def segment_length(self, length: int) -> int:
        """Balance the walk over a segment's tokens and that over all segments: about the root of the length."""
        shortest, longest = self.segment
        return min(max(1 << ((length.bit_length() + 1) // 2), shortest), longest)


BLOCKS = Blocks()


def why_not(device_type: str) -> str | None:
    """Say why this back end cannot run on a kind of device; None if it can."""
    if find_spec('triton') is None:
        return 'triton is not installed: `pip install triton` (Linux; the CUDA wheels of PyTorch bring it).'
    if interpreted():
        return None
    if device_type != 'cuda':
        return 'its kernels run on CUDA devices (or, far slower, under TRITON_INTERPRET=1).'
    if not torch.cuda.is_available():
        return 'PyTorch sees no CUDA device: check `nvidia-smi`, and that PyTorch is a CUDA build.'
    capability = torch.cuda.get_device_capability()
    if torch.version.hip is None and capability < MIN_CAPABILITY:
        return f'the GPU has compute capability {capability}, and Triton wants {MIN_CAPABILITY} or newer.'
    return None


@lru_cache(maxsize=1)
def _kernels() -> ModuleType:
    from . import kernels

    return kernels


def states_shape(inputs: ScanInputs) -> tuple[int, ...]:
    """Give the shape of the states kept for the backward: those that enter the segments."""
    directions, channels, d_state = inputs.A.shape
    length = inputs.order.shape[1]
    segments = -(-length // BLOCKS.segment_length(length))
    return (inputs.u.shape[0], directions, segments, d_state, channels)


class _Launch:
    """One call's tensors and sizes, and the launches that share them."""

    def __init__(self, inputs: ScanInputs) -> None:
        self.u, self.dt, self.B, self.C = inputs.u, inputs.dt, inputs.B, inputs.C
        self.A, self.D, self.dt_bias, self.order = (
            x.contiguous() for x in (inputs.A, inputs.D, inputs.dt_bias, inputs.order)
        )
        self.spatial, self.num_tokens = inputs.is_spatial, inputs.map_tokens
        self.batch, self.rows = self.u.shape[:2]
        self.length = self.order.shape[1]
        self.directions, self.channels, self.d_state = self.A.shape
        self.segment = BLOCKS.segment_length(self.length)
        self.segments = -(-self.length // self.segment)
        self.tiles = -(-self.length // BLOCKS.tile)
        if max(self.rows, self.length) * self.directions * self.channels >= 2**31:
            raise ValueError(
                f'{self.length} tokens in {self.directions} directions of {self.channels} channels are more than the '
                "triton kernels can address: scan a smaller map, or use backend='chunked'"
            )
        self.u_strides = (
            self.u.stride(0),
            self.u.stride(1),
            0 if self.spatial else self.u.stride(2),
            self.u.stride(-1),
        )

    @property
    def empty(self) -> bool:
        return self.batch * self.length * self.channels == 0

    def grid(self, parts: int) -> tuple[int, int, int]:
        return (-(-self.channels // BLOCKS.channels) * parts, self.directions, self.batch)

    def run(self, kernel: str, parts: int, *arguments: Any, **options: Any) -> None:
        """Launch a kernel on the device of the tensors, which need not be the current one."""
        with torch.cuda.device_of(self.A):
            getattr(_kernels(), kernel)[self.grid(parts)](*arguments, **options)

    def options(self, state: bool = True) -> dict[str, Any]:
        """Give the launch options; ``state`` for kernels that hold a whole state."""
        block_n = {'BLOCK_N': 1 << (self.d_state - 1).bit_length()} if state else {}
        return {'BLOCK_D': BLOCKS.channels, **block_n, 'num_warps': max(1, BLOCKS.channels // 32)}

    def walk_options(self, write: int) -> dict[str, Any]:
        sizes = {'SPATIAL': self.spatial, 'WRITE': write, 'SEGMENT': self.segment, 'TILE': BLOCKS.tile}
        return {**sizes, **self.options()}

    def state_buffer(self, parts: int) -> Tensor:
        return self.A.new_empty(self.batch, self.directions, parts, self.d_state, self.channels)

    def dt_sums(self) -> Tensor:
        """Make room for the sum of the step sizes of every segment."""
        return self.A.new_empty(self.batch, self.directions, self.segments, self.channels)

    def scan(self, write: int, states: Tensor, dt_sums: Tensor, tiles: Tensor, y: Tensor) -> None:
        """Walk forwards over all segments."""
        self.run(
            'scan_kernel', self.segments,
            self.u, self.dt, self.A, self.B, self.C, self.D, self.dt_bias, self.order, states, dt_sums, tiles, y,
            self.num_tokens, self.length, self.channels, self.d_state, self.segments, self.tiles,
            *self.u_strides, *self.dt.stride(), *self.B.stride(), *self.C.stride(), 1, **self.walk_options(write),
        )  # fmt: skip

    def reverse(self, write: int, grad: Tensor, states: Tensor, dt_sums: Tensor, tiles: Tensor) -> None:
        """Walk backwards over all segments."""
        self.run(
            'reverse_kernel', self.segments,
            grad, self.dt, self.A, self.C, self.dt_bias, self.order, states, dt_sums, tiles,
            self.num_tokens, self.length, self.channels, self.d_state, self.segments, self.tiles,
            *grad.stride(), *self.dt.stride(), *self.C.stride(), 1, **self.walk_options(write),
        )  # fmt: skip

    def carry(self, states: Tensor, dt_sums: Tensor, reverse: bool) -> None:
        """Turn what each segment adds to the state into the state that enters it."""
        sizes = (self.channels, self.d_state, self.segments)
        self.run('carry_kernel', 1, self.A, states, dt_sums, *sizes, 1, REVERSE=reverse, **self.options())


def forward(inputs: ScanInputs, keep_states: bool) -> tuple[Tensor, Tensor]:
    """Scan; returns y and, if asked to keep them, the states that enter the segments."""
    launch = _Launch(inputs)
    # Zeros, because an order may leave tokens out, and nothing here waits for the device to find out.
    y = inputs.u.new_zeros(launch.batch, launch.directions, launch.num_tokens, launch.channels)
    states = launch.state_buffer(launch.segments)
    if not launch.empty:
        kernels, dt_sums = _kernels(), launch.dt_sums()
        if launch.segments == 1:
            states.zero_()
        else:
            launch.scan(kernels.LOCAL, states, dt_sums, states, y)
            launch.carry(states, dt_sums, reverse=False)
        launch.scan(kernels.OUTPUTS, states, dt_sums, states, y)
    return y, states if keep_states else states.new_empty(0)


def backward(grad_y: Tensor, inputs: ScanInputs, states: Tensor) -> ScanGrads:
    """Compute the states again from the kept ones, and from them all gradients."""
    launch = _Launch(inputs)
    if launch.empty:
        return ScanGrads(*(torch.zeros_like(getattr(inputs, name)) for name in ScanGrads._fields[:-1]))
    tiles, grad_tiles = _states_at_tiles(launch, grad_y, states.contiguous())

    blocks = -(-launch.channels // BLOCKS.channels)
    batch, directions, channels, rows = launch.batch, launch.directions, launch.channels, launch.rows
    # Zeros where rows are written: an order may leave tokens out.
    d_B, d_C = (tiles.new_zeros(blocks, batch, rows, directions, launch.d_state) for _ in range(2))
    d_dt = inputs.dt.new_zeros(inputs.dt.shape)
    d_u = tiles.new_zeros(batch, directions, rows, channels) if launch.spatial else inputs.u.new_zeros(inputs.u.shape)
    d_D, d_dt_bias = (tiles.new_empty(launch.tiles, batch, directions, channels) for _ in range(2))
    launch.run(
        'gradient_kernel', launch.tiles,
        grad_y, launch.u, launch.dt, launch.A, launch.B, launch.C, launch.D, launch.dt_bias, launch.order,
        tiles, grad_tiles, d_u, d_dt, d_B, d_C, d_D, d_dt_bias,
        launch.num_tokens, rows, launch.length, channels, launch.d_state, launch.tiles,
        *grad_y.stride(), *launch.u_strides, *launch.dt.stride(), *launch.B.stride(), *launch.C.stride(), 1,
        SPATIAL=launch.spatial, TILE=BLOCKS.tile, STEPS=BLOCKS.tile.bit_length() - 1, **launch.options(state=False),
    )  # fmt: skip
    if launch.spatial:
        d_u = d_u.sum(1)
    d_A = tiles.sum((0, 2)).transpose(1, 2)  # the kernel has put the gradient of A into the place of the states
    grads = ScanGrads(d_u, d_dt, d_A, d_B.sum(0), d_C.sum(0), d_D.sum((0, 1)), d_dt_bias.sum((0, 1)))
    return grads.like(inputs)


def _states_at_tiles(launch: _Launch, grad_y: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """Give the states that enter each tile from before it, and the gradients of the states that enter from behind."""
    kernels, dt_sums = _kernels(), launch.dt_sums()
    tiles, grad_tiles = launch.state_buffer(launch.tiles), launch.state_buffer(launch.tiles)
    grad_states = torch.empty_like(states)
    launch.scan(kernels.TILES, states, dt_sums, tiles, grad_y)
    if launch.segments == 1:
        grad_states.zero_()
    else:
        launch.reverse(kernels.LOCAL, grad_y, grad_states, dt_sums, grad_tiles)
        launch.carry(grad_states, dt_sums, reverse=True)
    launch.reverse(kernels.TILES, grad_y, grad_states, dt_sums, grad_tiles)
    return tiles, grad_tiles
