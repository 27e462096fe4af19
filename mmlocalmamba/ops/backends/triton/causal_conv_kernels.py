"""Triton kernels of the causal convolution along scan orders, with SiLU.

Where a tile is (taps, steps, channels), taps are padded to ``TAPS``, a power of two, and those past the width are
masked. ``weight`` is (K, D, width), ``order`` (K, L_scan) and ``inverse`` (K, L), all contiguous; ``grad`` is (Bt,
L_scan, K, D). Strides are by image (``sb``), by token or step (``sl``) and by direction (``sk``).
"""

# mypy: ignore-errors

import triton
import triton.language as tl

from .rows import silu, silu_slope, token_at

_SIZES = ['num_tokens', 'length', 'chunk', 'directions']


@triton.jit
def _taps(weight, row, in_d, WIDTH: tl.constexpr, TAPS: tl.constexpr, dtype: tl.constexpr):
    tap = tl.arange(0, TAPS)[:, None, None]
    return tl.load(weight + row * WIDTH + tap, mask=(tap < WIDTH) & in_d, other=0).to(dtype)


@triton.jit
def _window(
    x, order, step, d, in_d, num_tokens, length, sl, WIDTH: tl.constexpr, TAPS: tl.constexpr, dtype: tl.constexpr
):
    # What each tap sees at some steps; zeros at padding and before the start.
    tap = tl.arange(0, TAPS)
    token = token_at(order, step[None, :] + tap[:, None] + (1 - WIDTH), length, num_tokens)[:, :, None]
    inside = (token >= 0) & (tap < WIDTH)[:, None, None] & in_d
    return tl.load(x + token.to(tl.int64) * sl + d, mask=inside, other=0).to(dtype)


@triton.jit(do_not_specialize=_SIZES)
def forward_kernel(
    x, weight, bias, order, y, num_tokens, length, dim, x_sb, x_sl,
    COMPUTE: tl.constexpr, WIDTH: tl.constexpr, TAPS: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Convolve a tile of steps; the grid is (blocks of channels x tiles, directions K, images Bt)."""
    blocks = tl.cdiv(dim, BLOCK)
    block, tile = tl.program_id(0) % blocks, tl.program_id(0) // blocks
    k, image = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    step, d = tile * TILE + tl.arange(0, TILE), block * BLOCK + tl.arange(0, BLOCK)[None, None, :]
    in_d, row = d < dim, k * dim + d
    w = _taps(weight, row, in_d, WIDTH, TAPS, COMPUTE)
    seen = _window(x + image * x_sb, order + k * length, step, d, in_d, num_tokens, length, x_sl, WIDTH, TAPS, COMPUTE)
    shift = tl.load(bias + row, mask=in_d, other=0).to(COMPUTE)
    out = silu(tl.sum(w * seen, 0, keep_dims=True) + shift)
    step = step[None, :, None]
    at = ((image * length + step) * tl.num_programs(1) + k) * dim + d
    tl.store(y + at, out.to(y.dtype.element_ty), mask=(step < length) & in_d)


@triton.jit(do_not_specialize=_SIZES)
def slope_kernel(
    grad_y, x, weight, bias, order, grad, partial,
    num_tokens, length, dim, chunk, grad_sb, grad_sl, grad_sk, x_sb, x_sl,
    WIDTH: tl.constexpr, TAPS: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Convolve a chunk of steps again, and give ``grad``, the gradient of the output before SiLU.

    ``partial`` (chunks, Bt, K, D, width + 1) takes the chunk's share of the gradients of the weights and of the bias.
    The grid is (blocks of channels x chunks, directions K, images Bt).
    """
    dtype = partial.dtype.element_ty
    blocks = tl.cdiv(dim, BLOCK)
    block, part = tl.program_id(0) % blocks, tl.program_id(0) // blocks
    k, image = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    directions, images = tl.num_programs(1), tl.num_programs(2)
    d = block * BLOCK + tl.arange(0, BLOCK)[None, None, :]
    in_d, row = d < dim, k * dim + d
    w = _taps(weight, row, in_d, WIDTH, TAPS, dtype)
    shift = tl.load(bias + row, mask=in_d, other=0).to(dtype)
    grad_weight = tl.zeros((TAPS, TILE, BLOCK), dtype=dtype)
    grad_bias = tl.zeros((1, TILE, BLOCK), dtype=dtype)
    first = part * chunk
    end = tl.minimum(first + chunk, length)
    x += image * x_sb
    order += k * length
    for start in range(first, end, TILE):
        step = start + tl.arange(0, TILE)
        seen = _window(x, order, step, d, in_d, num_tokens, length, x_sl, WIDTH, TAPS, dtype)
        slope = silu_slope(tl.sum(w * seen, 0, keep_dims=True) + shift)
        step = step[None, :, None]
        inside = (step < end) & in_d
        at = image * grad_sb + k * grad_sk + step.to(tl.int64) * grad_sl + d
        g = tl.load(grad_y + at, mask=inside, other=0).to(dtype) * slope
        at = ((image * length + step) * directions + k) * dim + d
        tl.store(grad + at, g.to(grad.dtype.element_ty), mask=inside)
        grad_weight += g * seen
        grad_bias += g
    tap = tl.arange(0, TAPS)[:, None, None]
    at = partial + (((part.to(tl.int64) * images + image) * directions + k) * dim + d) * (WIDTH + 1)
    tl.store(at + tap, tl.sum(grad_weight, 1, keep_dims=True), mask=(tap < WIDTH) & in_d)
    tl.store(at + WIDTH, tl.sum(grad_bias, 1, keep_dims=True), mask=in_d)


@triton.jit(do_not_specialize=_SIZES)
def invert_kernel(order, inverse, num_tokens, length, TILE: tl.constexpr):
    """Write the step of every token over the -1 that ``inverse`` holds; a token that an order leaves out keeps that."""
    k = tl.program_id(1).to(tl.int64)
    step = tl.program_id(0) * TILE + tl.arange(0, TILE)
    token = token_at(order + k * length, step, length, num_tokens)
    tl.store(inverse + k * num_tokens + token, step, mask=token >= 0)


@triton.jit(do_not_specialize=_SIZES)
def gather_kernel(
    grad, weight, inverse, grad_x, num_tokens, length, dim, directions,
    COMPUTE: tl.constexpr, WIDTH: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add up what reaches a token from the steps, up to ``WIDTH`` in each direction, that have seen it.

    ``weight`` is (K, width, D) here, so that the loop reads channels that lie side by side. The grid is (blocks of
    channels x tiles, images Bt).
    """
    blocks = tl.cdiv(dim, BLOCK)
    block, tile = tl.program_id(0) % blocks, tl.program_id(0) // blocks
    image = tl.program_id(1).to(tl.int64)
    token = tile * TILE + tl.arange(0, TILE)
    d = block * BLOCK + tl.arange(0, BLOCK)[None, :]
    in_d = d < dim
    total = tl.zeros((TILE, BLOCK), dtype=COMPUTE)
    grad += image * length * directions * dim
    for k in range(directions):
        first = tl.load(inverse + k * num_tokens + token, mask=token < num_tokens, other=-1)[:, None]
        for later in tl.static_range(WIDTH):
            step = first + later
            at = (step * directions + k).to(tl.int64) * dim + d
            g = tl.load(grad + at, mask=(first >= 0) & (step < length) & in_d, other=0).to(COMPUTE)
            tap = k * WIDTH + (WIDTH - 1 - later)  # the first step that sees a token does so by the last tap
            total += g * tl.load(weight + tap * dim + d, mask=in_d, other=0).to(COMPUTE)
    at = (image * num_tokens + token[:, None]) * dim + d
    tl.store(grad_x + at, total.to(grad_x.dtype.element_ty), mask=(token < num_tokens)[:, None] & in_d)
