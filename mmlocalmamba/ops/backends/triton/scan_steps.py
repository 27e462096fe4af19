"""What the scan's kernels share: where a step's token lies, its step size, and how much a state decays over it.

Conventions of all kernels of the scan:

- A program takes one piece of work after the other: a block of channels of one segment of one direction of one image.
  ``works`` is how many there are. Blocks come innermost, so that the programs that read the same rows of B and C run
  side by side.
- ``u_sb``, ``u_sl``, ``u_sk``, ``u_sd`` are the strides of u by image, row, direction and channel; ``B_sn`` is that of
  B by state. Offsets inside of one image are 32 bits wide, which saves many registers; the caller sees to it that they
  are enough. Which image and which direction are 64 bits wide.
- ``row`` is where a token's features are read, -1 for padding without any; ``token`` is where its output goes, -1 for
  none. They are the same in the spatial form. In scan order, a row is a step of the scan.
- All arithmetic is in the dtype of A: float32, or float64 for float64 tokens.
"""

# mypy: ignore-errors
# ruff: noqa: SIM102

import triton
import triton.language as tl

from . import interpreted

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)
INTERPRETED = tl.constexpr(interpreted())


@triton.jit
def softplus(x):
    """log(1 + exp(x)), as exact for x far below zero as anywhere else."""
    # log1p(z) = log(1 + z) * z / ((1 + z) - 1) is exact where 1 + z has lost most of z.
    z = tl.exp(-tl.abs(x))
    w = 1 + z
    small = w == 1
    return tl.maximum(x, 0) + tl.where(small, z, tl.log(w) * (z / tl.where(small, 1, w - 1)))


@triton.jit
def softplus_slope(delta):
    """Slope of softplus where its value is ``delta``: the logistic function, 1 - exp(-delta)."""
    # expm1(-delta), by the same trick.
    w = tl.exp(-delta)
    small = w == 1
    slope = (1 - w) * (delta / -tl.log(tl.where(small, 0.5, w)))
    # Past 80, the slope is 1 in any dtype here, and in float32 w is soon 0 and has no logarithm.
    return tl.where(small, delta, tl.where(delta > 80, 1, slope))


@triton.jit
def hidden_zero(position):
    """Give a zero that the compiler does not know to be one; ``position`` is 0 or more.

    Added to indices in a loop, it keeps the addresses from being computed once before the loop. Kept for all of it,
    they would take the registers that the walk over the tokens needs.
    """
    return tl.multiple_of(tl.minimum(position, 0), 16)


@triton.jit
def locate(work, directions, segments, blocks, c, hide, BLOCK_D: tl.constexpr):
    """Find which block of channels, segment, direction and image a piece of work is, and the channels.

    With a hidden zero for ``hide``, a place is found anew in each iteration of a loop.
    """
    work += hide
    block, segment, scan = work % blocks, work // blocks % segments, work // (blocks * segments)
    k, b = (scan % directions).to(tl.int64), (scan // directions).to(tl.int64)
    return block, segment, k, b, block * BLOCK_D + c


@triton.jit
def step_at(order, position, end, num_tokens, SPATIAL: tl.constexpr):
    """Give token and row of one step, or of a tile of them; both are -1 from ``end`` on."""
    # A value that names no token counts as padding: no load or store that follows can leave its tensor, whatever the
    # order holds.
    token = tl.load(order + position, mask=position < end, other=-1)
    token = tl.where((token >= 0) & (token < num_tokens), token, -1)
    row = token
    if not SPATIAL:
        row = tl.where(position < end, position, -1)
    return token, row


@triton.jit
def decay_rate(A, LOG_A: tl.constexpr):
    """Give the rates that :func:`decay` takes, from A or ln(-A)."""
    rate = A
    if LOG_A:
        # Beyond, a rate would be infinite, and not a number where the step is 0: nothing is left of a state either way.
        rate = -tl.exp(tl.where(A > 88.0, 88.0, A))
    # exp(x) is exp2(x log2(e)). The factor goes into the rate once, not into every exponential. A constant of a kernel
    # has the precision of float32, so float64 does without.
    if A.dtype == tl.float32:
        rate = rate * LOG2_E
    return rate


@triton.jit
def decay(delta, rate):
    """How much of a state (D, N) is left after a step of ``delta`` (D,)."""
    if rate.dtype == tl.float32:
        return tl.exp2(delta * rate)
    return tl.exp(delta * rate)


@triton.jit
def load_dt(
    dt, order, position, end, num_tokens, d, dim, rank, dt_sl, dt_sd, SPATIAL: tl.constexpr, BLOCK_R: tl.constexpr
):  # fmt: skip
    """Load the step sizes of a tile, before their projection (T, R), or those of every channel (T, D)."""
    _, row = step_at(order, position, end, num_tokens, SPATIAL)
    column, columns = d, dim
    if BLOCK_R > 0:
        column, columns = tl.arange(0, BLOCK_R), rank
    mask = (row >= 0)[:, None] & (column < columns)[None, :]
    return tl.load(dt + row[:, None] * dt_sl + column[None, :] * dt_sd, mask=mask, other=0)


@triton.jit
def load_dt_weight(dt_weight, d, dim, rank, dtype: tl.constexpr, BLOCK_R: tl.constexpr):
    """Load the projection of the step sizes, (D, R)."""
    r = tl.arange(0, BLOCK_R)
    mask = (d < dim)[:, None] & (r < rank)[None, :]
    return tl.load(dt_weight + d[:, None] * rank + r[None, :], mask=mask, other=0).to(dtype)


@triton.jit
def dot(x, y, dtype: tl.constexpr):
    """Multiply matrices; full precision for float32 and float64, accumulation in ``dtype``."""
    if INTERPRETED:
        # Triton's interpreter holds bfloat16 as integers, and multiplies those.
        if x.dtype == tl.bfloat16:
            x, y = x.to(tl.float32), y.to(tl.float32)
    return tl.dot(x, y, input_precision='ieee', out_dtype=dtype)


@triton.jit
def step_sizes(low, dt_weight, bias, position, end, d, dim, rank, BLOCK_R: tl.constexpr):
    """Give the step sizes (T, D) of a tile from what ``load_dt`` loaded.

    They are 0 from ``end`` on, so that nothing changes, and for channels past the last one: a low rank that is infinite
    would make them NaN, and sums over the channels with them.
    """
    raw = low.to(bias.dtype)
    if BLOCK_R > 0:
        weight = load_dt_weight(dt_weight, d, dim, rank, low.dtype, BLOCK_R)
        raw = dot(low, tl.trans(weight), bias.dtype)
    return tl.where((position < end)[:, None] & (d < dim)[None, :], softplus(raw + bias[None, :]), 0)


@triton.jit
def load_tile(
    dt, order, work, first, end, num_tokens, length, directions, segments, blocks, dim, rank,
    dt_sb, dt_sl, dt_sk, dt_sd, c, hide,
    SPATIAL: tl.constexpr, TILE: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """Load the step sizes of the tile that starts at ``first``, for a piece of work; see ``load_dt``."""
    _, _, k, b, d = locate(work, directions, segments, blocks, c, hide, BLOCK_D)
    position = first + tl.arange(0, TILE)
    return load_dt(
        dt + b * dt_sb + k * dt_sk, order + k * length, position, end, num_tokens, d, dim, rank, dt_sl, dt_sd,
        SPATIAL, BLOCK_R,
    )  # fmt: skip


@triton.jit
def store_tile(
    buffer, low, dt_weight, dt_bias, work, first, end, directions, segments, blocks, dim, rank, c, hide,
    TILE: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """Write the step sizes of a tile into the buffer (TILE, D), from what ``load_tile`` has loaded."""
    _, _, k, _, d = locate(work, directions, segments, blocks, c, hide, BLOCK_D)
    t = tl.arange(0, TILE)
    bias = tl.load(dt_bias + k * dim + d, mask=d < dim, other=0)
    tile = step_sizes(low, dt_weight + k * dim * rank, bias, first + t, end, d, dim, rank, BLOCK_R)
    tl.store(buffer + (t + hide)[:, None] * BLOCK_D + (c + hide)[None, :], tile)
