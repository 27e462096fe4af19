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

from mmlocalmamba.ops.backends.triton.scan_settings import CHUNK as KEPT
from mmlocalmamba.ops.backends.triton.scan_settings import MULTIPROCESSORS, ScanSettings, count_segments, largest_group

FULL = 4
"""Bytes of what is kept in float32: states and sums."""

SETTINGS = ScanSettings()

FORWARD_EXCHANGES, BACKWARD_EXCHANGES = 8 / 16, 72 / 16
"""Values exchanged between lanes per token, channel and state, as ``triton_report.py`` counts them for 16 states."""

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
        rank: Rank R of the step sizes, which our kernels read before their projection.
    """

    tokens: int
    channels: int
    directions: int = 4
    d_state: int = 16
    batch: int = 1
    itemsize: int = 2
    rank: int = 12

    @property
    def per_channel(self) -> int:
        """Numbers in a tensor with all channels in every direction, such as dt."""
        return self.batch * self.directions * self.tokens * self.channels

    @property
    def per_state(self) -> int:
        """Numbers in B or C."""
        return self.batch * self.directions * self.tokens * self.d_state

    @property
    def per_rank(self) -> int:
        """Numbers in the step sizes before their projection."""
        return self.batch * self.directions * self.tokens * self.rank

    def segments(self, width: int, warps: int) -> int:
        """Return how many segments our kernels cut a scan into, from the channels and warps of a program."""
        present = self.batch * self.directions * -(-self.channels // width) * warps
        return count_segments(self.tokens, present, MULTIPROCESSORS)


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


def fused_forward(layer: Layer, settings: ScanSettings = SETTINGS) -> Cost:
    """Estimate our kernels' forward in training: with several segments, first a pass for what each adds to the state.

    Args:
        layer: Sizes of the scan.
        settings: Sizes of the kernels' work.
    """
    item, wide, narrow = layer.itemsize, layer.per_channel, layer.per_state
    segments = layer.segments(settings.forward_channels, settings.forward_warps)
    passes = 1 if segments == 1 else 2
    orders = passes * layer.directions * layer.tokens * 4
    kept = _state_bytes(layer, -(-layer.tokens // KEPT) - 1)
    # Each pass reads u, dt and B. The last one also reads C, and writes y, which has been filled with zeros.
    moved = item * (passes * (wide + narrow + layer.per_rank) + narrow + 2 * wide) + orders + kept
    if segments > 1:
        moved += _state_bytes(layer, segments) + _state_bytes(layer, segments * (segments - 1) // 2)
    return Cost(moved, passes * wide * layer.d_state, FORWARD_EXCHANGES * wide * layer.d_state)


def fused_backward(layer: Layer, settings: ScanSettings = SETTINGS) -> Cost:
    """Estimate our kernels' backward: what is read again within a chunk of tokens comes from the cache.

    Args:
        layer: Sizes of the scan.
        settings: Sizes of the kernels' work.
    """
    item, wide, narrow, low = layer.itemsize, layer.per_channel, layer.per_state, layer.per_rank
    segments = layer.segments(settings.backward_channels, settings.backward_warps)
    groups = _groups(layer, settings, segments)
    # Read u, dy, B, C, dt and the kept states; write du per direction, and the sums over tokens.
    moved: float = item * (3 * wide + 2 * narrow + low) + _state_bytes(layer, -(-layer.tokens // KEPT) - 1)
    # The gradients of B, C and dt come per group of blocks of channels: filled with zeros, then read and written for
    # each block, then read to be added up.
    blocks = -(-layer.channels // settings.backward_channels)
    moved += FULL * (2 * groups + 2 * blocks) * (2 * narrow + low) + item * (2 * narrow + low)
    moved += item * wide * (1 + 1 / layer.directions) + 2 * _state_bytes(layer, segments)  # those of u, A and D
    exponentials = 2 * wide * layer.d_state
    if segments > 1:
        moved += item * (wide + narrow + low) + _state_bytes(layer, segments * (segments + 1) // 2)
        exponentials += wide * layer.d_state
    return Cost(moved, exponentials, BACKWARD_EXCHANGES * wide * layer.d_state)


def _groups(layer: Layer, settings: ScanSettings, segments: int) -> int:
    blocks = -(-layer.channels // settings.backward_channels)
    works = layer.batch * layer.directions * segments * blocks
    return blocks // largest_group(blocks, works, settings.backward_programs * MULTIPROCESSORS)


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
