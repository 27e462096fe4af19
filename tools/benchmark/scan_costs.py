"""Estimate, not measure, what the scan of a layer costs on a GPU: bytes, exponentials, launches, and the serial walk.

Two ways of scanning K directions are counted. *Fused*: our Triton kernels, which read tokens by their orders, expand
step sizes of low rank inside, and keep a state every few dozen steps. *Permute*: step sizes are expanded by a matrix
product, tokens are gathered into every direction, scanned by mamba-ssm's kernel, and scattered back.

A tensor is counted once for each pass that reads or writes it, and again for each direction. Caches are taken to catch
only what the programs of one token share. Tokens have the size that the model gives them; states, parameters and
partial sums are float32. The time is the slowest of the bounds, at the peak rates of a data sheet: a lower limit that
no kernel reaches.

The backward of mamba-ssm adds atomically, once per token, channel and state for each of B and C. No data sheet has a
rate for that, so it is left out, and the time of that way is estimated too low.
"""

from __future__ import annotations

from dataclasses import dataclass

FULL = 4
"""Bytes of what is kept in float32: states, parameters and sums."""

KEPT = 64
"""Steps after which our forward keeps a state for the backward."""

CHUNK = 2048
"""Tokens after which mamba-ssm's kernel keeps a state."""

FORWARD_CHANNELS, BACKWARD_CHANNELS, WARP_CHANNELS = 32, 16, 16
"""Channels of a program of our kernels, forward and backward, and of a warp of either."""

FORWARD_EXCHANGES, BACKWARD_EXCHANGES = 8 / 16, 72 / 16
"""Values exchanged between lanes per token, channel and state, as ``triton_report.py`` counts them for 16 states."""

WARPS = 8
"""Warps that each multiprocessor should have; where a scan in one piece gives fewer than half, it is cut into more."""

CYCLES_PER_EXPONENTIAL = 8
"""Cycles in which a quarter of a multiprocessor computes one exponential for each lane of a warp."""


@dataclass(frozen=True)
class Gpu:
    """Peak rates of a GPU, from its data sheet.

    Attributes:
        name: Its name.
        bandwidth: Bytes per second of its memory.
        multiprocessors: Number of streaming multiprocessors.
        clock: Boost clock in Hz.
        matrix_products: Multiply-adds, counted as two, per second of the matrix units in half precision, dense.
    """

    name: str
    bandwidth: float
    multiprocessors: int
    clock: float
    matrix_products: float

    @property
    def exponentials(self) -> float:
        """Exponentials per second: 16 per multiprocessor and cycle."""
        return 16 * self.multiprocessors * self.clock

    @property
    def exchanges(self) -> float:
        """Values exchanged between lanes per second: 32 per multiprocessor and cycle."""
        return 32 * self.multiprocessors * self.clock


GPUS = {
    'a100': Gpu('A100 SXM 80 GB', 2.039e12, 108, 1.41e9, 312e12),
    'h100': Gpu('H100 SXM', 3.35e12, 132, 1.98e9, 989e12),
}


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
        rank: Rank of the step sizes.
        spatial: Whether all directions read the same u, as in LocalVMamba; in LocalVim each has its own.
    """

    tokens: int
    channels: int
    directions: int = 4
    d_state: int = 16
    batch: int = 1
    itemsize: int = 2
    rank: int = 6
    spatial: bool = True

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
        """Numbers in the step sizes at low rank."""
        return self.batch * self.directions * self.tokens * self.rank

    @property
    def gradient_of_u(self) -> int:
        """Numbers in the gradient of u."""
        return self.per_channel // self.directions if self.spatial else self.per_channel


@dataclass(frozen=True)
class Cost:
    """Work of one way of scanning.

    Attributes:
        bytes: Bytes moved.
        exponentials: Exponentials, those of the step sizes not included.
        exchanges: Values exchanged between lanes.
        launches: Kernels launched.
        steps: Steps that one warp walks over, one after the other, each with the exponentials of all its states.
        d_state: How many exponentials these are.
        products: Operations of matrix products outside of the scan's kernels.
    """

    bytes: float
    exponentials: float
    exchanges: float = 0.0
    launches: int = 1
    steps: int = 0
    d_state: int = 16
    products: float = 0.0

    def bounds(self, gpu: Gpu) -> dict[str, float]:
        """Return the seconds that each resource needs."""
        return {
            'bytes': self.bytes / gpu.bandwidth,
            'exponentials': self.exponentials / gpu.exponentials,
            'exchanges': self.exchanges / gpu.exchanges,
            'walk': self.steps * self.d_state * CYCLES_PER_EXPONENTIAL / gpu.clock,
            'products': self.products / gpu.matrix_products,
        }

    def seconds(self, gpu: Gpu) -> float:
        """Return the slowest bound: a lower limit of the time."""
        return max(self.bounds(gpu).values())


def segments(layer: Layer, gpu: Gpu, channels: int) -> int:
    """Return into how many pieces our kernels cut a scan: as many as give every multiprocessor enough warps.

    Args:
        layer: Sizes of the scan.
        gpu: Where.
        channels: Channels of a warp.
    """
    warps = layer.batch * layer.directions * -(-layer.channels // channels)
    if 2 * warps >= gpu.multiprocessors * WARPS:
        return 1
    most = min(layer.tokens // (2 * KEPT), int((layer.tokens / 2) ** 0.5))
    return max(1, min(-(-gpu.multiprocessors * WARPS // warps), most))


def fused_forward(layer: Layer, gpu: Gpu, keep: bool = True) -> Cost:
    """Estimate our kernels' forward: one pass, or in several segments one more before it for what each of them adds.

    Args:
        layer: Sizes of the scan.
        gpu: Where; it decides about the segments.
        keep: Whether states are kept for a backward.
    """
    count = segments(layer, gpu, WARP_CHANNELS)
    passes = 1 if count == 1 else 2
    blocks = -(-layer.channels // FORWARD_CHANNELS)
    # Every pass reads u, and for each block of channels dt and B; the last one also C. It writes y, cleared before.
    inputs = layer.per_channel + blocks * (layer.per_rank + layer.per_state)
    moved = layer.itemsize * (passes * inputs + blocks * layer.per_state + 2 * layer.per_channel)
    moved += passes * layer.directions * layer.tokens * blocks * 4  # orders
    moved += _state_bytes(layer, -(-layer.tokens // KEPT) - 1) * keep
    moved += 2 * _state_bytes(layer, count) * (count > 1)
    steps = passes * -(-layer.tokens // count)
    exponentials = passes * layer.per_channel * layer.d_state
    return Cost(moved, exponentials, FORWARD_EXCHANGES * exponentials, passes + 1, steps, layer.d_state)


def fused_backward(layer: Layer, gpu: Gpu) -> Cost:
    """Estimate our kernels' backward: the states of each chunk again from the one that was kept, and all gradients.

    Two exponentials per token, channel and state; one more where there are several segments.
    """
    count = segments(layer, gpu, WARP_CHANNELS)
    blocks = -(-layer.channels // BACKWARD_CHANNELS)
    narrow = layer.per_rank + 2 * layer.per_state
    item, several = layer.itemsize, count > 1
    moved: float = item * (2 * layer.per_channel + blocks * narrow)  # u and dy; dt, B and C for each block
    moved += several * item * (layer.per_channel + blocks * (layer.per_rank + layer.per_state))
    moved += _state_bytes(layer, -(-layer.tokens // KEPT) - 1)
    # Gradients of u come by direction; those of dt, B and C as one partial sum per block. All are added up afterwards.
    moved += item * layer.per_channel * (2 if layer.spatial else 1) + item * layer.gradient_of_u * layer.spatial
    moved += 2 * FULL * blocks * narrow + item * narrow
    exponentials = (2 + several) * layer.per_channel * layer.d_state
    # Sums over a warp's channels for B and C, whose states are shared by the lanes of each channel.
    exchanges = BACKWARD_EXCHANGES * layer.per_channel * layer.d_state
    steps = (2 + several) * -(-layer.tokens // count)
    return Cost(moved, exponentials, exchanges, 5 + several, steps, layer.d_state // 2)


def permute_forward(layer: Layer, gpu: Gpu) -> Cost:
    """Estimate expanding step sizes, gathering u, dt, B and C, mamba-ssm's scan in one pass, and scattering y back.

    Its kernel reads u, dt, B and C of every direction and writes y. It scans with a block of threads over the tokens of
    one channel, so that no warp walks over all of them.
    """
    wide, narrow, item = layer.per_channel, layer.per_state, layer.itemsize
    expanded = layer.per_rank + wide
    gathered = 2 * (2 * wide + 2 * narrow) + 2 * (2 * wide + 2 * narrow)  # by the order, then tokens innermost
    scanned = 2 * wide + 2 * narrow + wide
    scattered = 2 * 2 * wide
    states = 2 * _state_bytes(layer, -(-layer.tokens // CHUNK))
    moved = item * (expanded + gathered + scanned + scattered) + states
    return Cost(moved, wide * layer.d_state, launches=12, products=2 * wide * layer.rank)


def permute_backward(layer: Layer, gpu: Gpu) -> Cost:
    """Estimate gathering the inputs and dy, a backward in one pass with atomics for B and C, and scattering back."""
    item, wide, narrow = layer.itemsize, layer.per_channel, layer.per_state
    gathered = 4 * (3 * wide + 2 * narrow)
    scanned = 3 * wide + 2 * narrow + 2 * wide
    scattered = 2 * (2 * wide + 2 * narrow) + wide + layer.gradient_of_u
    expanded = 2 * wide + 2 * layer.per_rank  # the products for the gradients of the step sizes' factors
    atomics = 2 * FULL * narrow * 2
    moved = item * (gathered + scanned + scattered + expanded) + atomics
    return Cost(moved, 2 * wide * layer.d_state, launches=20, products=4 * wide * layer.rank)


def _state_bytes(layer: Layer, count: int) -> int:
    """Return the bytes of the state of every direction and channel at ``count`` places of the sequence."""
    return FULL * layer.batch * layer.directions * count * layer.channels * layer.d_state


def local_vmamba_layers(
    height: int, width: int, dims: tuple[int, ...], depths: tuple[int, ...], batch: int = 1, itemsize: int = 2
) -> list[tuple[Layer, int]]:
    """Return the layers of LocalVMamba at an input size in pixels, and how many there are of each."""
    layers = []
    rows, columns = -(-height // 4), -(-width // 4)
    for dim, depth in zip(dims, depths, strict=True):
        layer = Layer(rows * columns, 2 * dim, batch=batch, itemsize=itemsize, rank=-(-dim // 16))
        layers.append((layer, depth))
        rows, columns = -(-rows // 2), -(-columns // 2)
    return layers


def local_vim_layers(
    height: int, width: int, embed_dim: int, depth: int, batch: int = 1, itemsize: int = 2
) -> list[tuple[Layer, int]]:
    """Return the layers of LocalVim, whose directions each have tokens of their own."""
    tokens, rank = -(-height // 16) * -(-width // 16), -(-embed_dim // 16)
    return [(Layer(tokens, 2 * embed_dim, batch=batch, itemsize=itemsize, rank=rank, spatial=False), depth)]
