"""Estimate, not measure, what the scan of a layer costs on a GPU: bytes moved, exponentials, lane exchanges.

Two ways of scanning K directions are counted. *Fused*: our Triton kernels, which read tokens by their orders.
*Permute*: tokens are gathered into every direction, scanned by a kernel like mamba-ssm's, and scattered back.

A tensor is counted once for each pass that reads or writes it, and again for each direction. Caches are taken to catch
only what the programs of one token share. The time is the slowest of the bounds, at the peak rates of a data sheet: a
lower limit that no kernel reaches.

The backward of mamba-ssm adds atomically, once per token, channel and state for each of B and C. No data sheet has a
rate for that, so it is left out, and the time of that way is estimated too low.
"""

from __future__ import annotations

from dataclasses import dataclass

from mmlocalmamba.ops.backends.triton import BLOCKS, Blocks

FULL = 4
"""Bytes of what is kept in float32: states and sums."""

CHUNK = 2048
"""Tokens after which mamba-ssm's kernel keeps a state."""


@dataclass(frozen=True)
class Gpu:
    """Peak rates of a GPU, from its data sheet.

    Attributes:
        name: Its name.
        bandwidth: Bytes per second of its memory.
        multiprocessors: Number of streaming multiprocessors.
        clock: Boost clock in Hz.
    """

    name: str
    bandwidth: float
    multiprocessors: int
    clock: float

    @property
    def exponentials(self) -> float:
        """Exponentials per second: 16 per multiprocessor and cycle."""
        return 16 * self.multiprocessors * self.clock

    @property
    def exchanges(self) -> float:
        """Values exchanged between lanes per second: 32 per multiprocessor and cycle."""
        return 32 * self.multiprocessors * self.clock


GPUS = {'a100': Gpu('A100 SXM 80 GB', 2.039e12, 108, 1.41e9), 'h100': Gpu('H100 SXM', 3.35e12, 132, 1.98e9)}


@dataclass(frozen=True)
class Layer:
    """Sizes of one layer's scan, with tokens in their own places.

    Attributes:
        tokens: Tokens L of the map.
        channels: Channels D.
        directions: Directions K.
        d_state: States N per channel.
        batch: Images.
        itemsize: Bytes of a number in u, dt, B, C and y.
    """

    tokens: int
    channels: int
    directions: int = 4
    d_state: int = 16
    batch: int = 1
    itemsize: int = 2

    @property
    def per_channel(self) -> int:
        """Numbers in a tensor with all channels in every direction, such as dt."""
        return self.batch * self.directions * self.tokens * self.channels

    @property
    def per_state(self) -> int:
        """Numbers in B or C."""
        return self.batch * self.directions * self.tokens * self.d_state


@dataclass(frozen=True)
class Cost:
    """Work of one way of scanning: bytes moved, exponentials, values exchanged between lanes."""

    bytes: float
    exponentials: float
    exchanges: float = 0.0

    def bounds(self, gpu: Gpu) -> dict[str, float]:
        """Return the seconds that each resource needs."""
        return {
            'bytes': self.bytes / gpu.bandwidth,
            'exponentials': self.exponentials / gpu.exponentials,
            'exchanges': self.exchanges / gpu.exchanges,
        }

    def seconds(self, gpu: Gpu) -> float:
        """Return the slowest bound: a lower limit of the time."""
        return max(self.bounds(gpu).values())


def fused_forward(layer: Layer, tiling: Blocks = BLOCKS) -> Cost:
    """Estimate our kernels' forward: a pass for the states of the segments, the carry, and a pass for the outputs.

    Args:
        layer: Sizes of the scan.
        tiling: Sizes of the kernels' work.
    """
    item, wide, narrow = layer.itemsize, layer.per_channel, layer.per_state
    segments = -(-layer.tokens // tiling.segment_length(layer.tokens))
    passes = 1 if segments == 1 else 2
    orders = passes * layer.directions * layer.tokens * 4
    states = _state_bytes(layer, segments) * (2 if segments == 1 else 4)  # written, carried on (read, written), read
    # Every pass reads u, dt and B; the last one also reads C and writes y.
    moved = item * (passes * (2 * wide + narrow) + narrow + wide) + orders + states
    return Cost(moved, passes * wide * layer.d_state)


def fused_backward(layer: Layer, tiling: Blocks = BLOCKS) -> Cost:
    """Estimate our kernels' backward: states and their gradients at tiles, then all gradients of each tile.

    Args:
        layer: Sizes of the scan.
        tiling: Sizes of the kernels' work.
    """
    item, wide, narrow = layer.itemsize, layer.per_channel, layer.per_state
    segments = -(-layer.tokens // tiling.segment_length(layer.tokens))
    reverses = 1 if segments == 1 else 2
    tiles = _state_bytes(layer, -(-layer.tokens // tiling.tile))
    moved: float = item * (2 * wide + narrow) + tiles  # states at tiles
    moved += reverses * item * (2 * wide + narrow) + tiles + 4 * _state_bytes(layer, segments)  # their gradients
    moved += item * (3 * wide + 2 * narrow) + 3 * tiles  # read u, dt, dy, B, C and the tiles; write that of A
    moved += FULL * wide + item * wide  # write du per direction, and ddt
    # The gradients of B and C come as one partial sum per program, each for a few channels, and are added up then.
    partial = 2 * FULL * narrow * -(-layer.channels // tiling.channels)
    moved += 2 * partial + 2 * item * narrow + FULL * wide + item * wide / layer.directions + tiles  # the sums
    # Sums over a warp's channels for B and C: 5 steps each.
    return Cost(moved, (1 + reverses + 2) * wide * layer.d_state, 2 * 5 * wide * layer.d_state)


def permute_forward(layer: Layer) -> Cost:
    """Estimate gathering u, dt, B and C into every direction, a scan in one pass, and scattering y back."""
    wide, narrow = layer.per_channel, layer.per_state
    gathered = 2 * (2 * wide + 2 * narrow)
    scanned = 2 * wide + 2 * narrow + wide
    states = 2 * _state_bytes(layer, -(-layer.tokens // CHUNK))
    return Cost(layer.itemsize * (gathered + scanned + 2 * wide) + states, wide * layer.d_state)


def permute_backward(layer: Layer) -> Cost:
    """Estimate gathering the inputs and dy, a backward in one pass with atomics for B and C, and scattering back."""
    item, wide, narrow = layer.itemsize, layer.per_channel, layer.per_state
    gathered = 2 * (3 * wide + 2 * narrow)
    scanned = 3 * wide + 2 * narrow + 2 * wide
    scattered = 2 * (2 * wide + 2 * narrow) + wide + wide / layer.directions
    atomics = 2 * FULL * narrow * 2
    return Cost(item * (gathered + scanned + scattered) + atomics, 2 * wide * layer.d_state)


def _state_bytes(layer: Layer, count: int) -> int:
    """Return the bytes of the state of every direction and channel at ``count`` places of the sequence."""
    return FULL * layer.batch * layer.directions * count * layer.channels * layer.d_state


def local_vmamba_layers(
    height: int, width: int, dims: tuple[int, ...], depths: tuple[int, ...], batch: int = 1, itemsize: int = 2
) -> list[tuple[Layer, int]]:
    """Return the layers of LocalVMamba at an input size in pixels, and how many there are of each."""
    layers = []
    rows, columns = height // 4, width // 4
    for dim, depth in zip(dims, depths, strict=True):
        layers.append((Layer(rows * columns, 2 * dim, batch=batch, itemsize=itemsize), depth))
        rows, columns = -(-rows // 2), -(-columns // 2)
    return layers


def local_vim_layers(
    height: int, width: int, embed_dim: int, depth: int, batch: int = 1, itemsize: int = 2
) -> list[tuple[Layer, int]]:
    """Return the layers of LocalVim at an input size in pixels; the scan order form moves as much, near enough."""
    return [(Layer((height // 16) * (width // 16), 2 * embed_dim, batch=batch, itemsize=itemsize), depth)]
