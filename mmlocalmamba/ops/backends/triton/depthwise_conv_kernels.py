"""Triton kernels of the depth-wise 3 x 3 convolution with SiLU, on maps whose channels come last.

A program takes a block of channels of ``TILE`` columns, and walks down a strip of rows. It reads each row of the input
once, at three places side by side. Strides are by image (``sb``), by row (``sh``) and by column (``sw``).
"""

# mypy: ignore-errors

import triton
import triton.language as tl

from .rows import silu, silu_slope

_SIZES = ['height', 'width', 'rows', 'tiles']


@triton.jit
def _place(dim, tiles, rows, TILE: tl.constexpr, BLOCK: tl.constexpr):
    # First row of the strip, columns and channels of this program.
    blocks = tl.cdiv(dim, BLOCK)
    block = tl.program_id(0) % blocks
    tile = (tl.program_id(0) // blocks) % tiles
    strip = tl.program_id(0) // (blocks * tiles)
    column = tile * TILE + tl.arange(0, TILE)[:, None]
    return strip * rows, column, block * BLOCK + tl.arange(0, BLOCK)[None, :]


@triton.jit
def _load(x, row, column, d, height, width, dim, sh, sw, dtype: tl.constexpr):
    # A row of the map at some columns; zeros around the map.
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width) & (d < dim)
    return tl.load(x + row.to(tl.int64) * sh + column.to(tl.int64) * sw + d, mask=inside, other=0).to(dtype)


@triton.jit
def _load_three(x, row, column, d, height, width, dim, sh, sw, dtype: tl.constexpr):
    left = _load(x, row, column - 1, d, height, width, dim, sh, sw, dtype)
    middle = _load(x, row, column, d, height, width, dim, sh, sw, dtype)
    right = _load(x, row, column + 1, d, height, width, dim, sh, sw, dtype)
    return left, middle, right


@triton.jit
def _load_taps(weight, row: tl.constexpr, d, dim, FLIP: tl.constexpr, dtype: tl.constexpr):
    # A row of the kernel; with FLIP, of the kernel turned by half a turn.
    start: tl.constexpr = 8 - 3 * row if FLIP else 3 * row
    step: tl.constexpr = -1 if FLIP else 1
    left = tl.load(weight + d * 9 + start, mask=d < dim, other=0).to(dtype)
    middle = tl.load(weight + d * 9 + start + step, mask=d < dim, other=0).to(dtype)
    right = tl.load(weight + d * 9 + start + 2 * step, mask=d < dim, other=0).to(dtype)
    return left, middle, right


@triton.jit(do_not_specialize=_SIZES)
def conv_kernel(
    x, weight, bias, y, height, width, dim, rows, tiles, x_sb, x_sh, x_sw,
    ACTIVATE: tl.constexpr, FLIP: tl.constexpr, COMPUTE: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Convolve; with ``ACTIVATE``, add the bias and apply SiLU. ``FLIP`` turns the kernel by half a turn."""
    first, column, d = _place(dim, tiles, rows, TILE, BLOCK)
    last = tl.minimum(first + rows, height)
    image = tl.program_id(1).to(tl.int64)
    x += image * x_sb
    y += image * height * width * dim
    w0, w1, w2 = _load_taps(weight, 0, d, dim, FLIP, COMPUTE)
    w3, w4, w5 = _load_taps(weight, 1, d, dim, FLIP, COMPUTE)
    w6, w7, w8 = _load_taps(weight, 2, d, dim, FLIP, COMPUTE)
    shift = tl.zeros((1, BLOCK), dtype=COMPUTE)
    if ACTIVATE:
        shift = tl.load(bias + d, mask=d < dim, other=0).to(COMPUTE)
    # A row of the input adds to three rows of the output. These two are not complete yet: the row above the current
    # one, and the current one.
    above = tl.zeros((TILE, BLOCK), dtype=COMPUTE)
    here = tl.zeros((TILE, BLOCK), dtype=COMPUTE)
    for step in range(last - first + 2):
        row = first + step - 1
        left, middle, right = _load_three(x, row, column, d, height, width, dim, x_sh, x_sw, COMPUTE)
        out = above + w6 * left + w7 * middle + w8 * right + shift
        if ACTIVATE:
            out = silu(out)
        inside = (row > first) & (column < width) & (d < dim)
        at = y + ((row - 1).to(tl.int64) * width + column) * dim + d
        tl.store(at, out.to(y.dtype.element_ty), mask=inside)
        above = here + w3 * left + w4 * middle + w5 * right
        here = w0 * left + w1 * middle + w2 * right


@triton.jit(do_not_specialize=_SIZES)
def slope_kernel(
    grad_y, x, weight, bias, grad, partial,
    height, width, dim, rows, tiles, grad_sb, grad_sh, grad_sw, x_sb, x_sh, x_sw,
    TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Convolve again, and give ``grad``, the gradient of the output before SiLU.

    ``partial`` (images, strips and tiles, 10, D) takes this program's share of the gradients of the kernel's nine
    weights and of the bias.
    """
    dtype = partial.dtype.element_ty
    first, column, d = _place(dim, tiles, rows, TILE, BLOCK)
    last = tl.minimum(first + rows, height)
    image = tl.program_id(1).to(tl.int64)
    x += image * x_sb
    grad_y += image * grad_sb
    grad += image * height * width * dim
    w0, w1, w2 = _load_taps(weight, 0, d, dim, False, dtype)
    w3, w4, w5 = _load_taps(weight, 1, d, dim, False, dtype)
    w6, w7, w8 = _load_taps(weight, 2, d, dim, False, dtype)
    shift = tl.load(bias + d, mask=d < dim, other=0).to(dtype)
    # The rows above, at and below the current one, and what each tap gathers for its gradient.
    x0, x1, x2 = _load_three(x, first - 1, column, d, height, width, dim, x_sh, x_sw, dtype)
    x3, x4, x5 = _load_three(x, first, column, d, height, width, dim, x_sh, x_sw, dtype)
    zero = tl.zeros((TILE, BLOCK), dtype=dtype)
    s0, s1, s2, s3, s4, s5, s6, s7, s8, s9 = zero, zero, zero, zero, zero, zero, zero, zero, zero, zero
    for step in range(last - first):
        row = first + step
        x6, x7, x8 = _load_three(x, row + 1, column, d, height, width, dim, x_sh, x_sw, dtype)
        out = w0 * x0 + w1 * x1 + w2 * x2 + w3 * x3 + w4 * x4 + w5 * x5 + w6 * x6 + w7 * x7 + w8 * x8 + shift
        g = _load(grad_y, row, column, d, height, width, dim, grad_sh, grad_sw, dtype) * silu_slope(out)
        at = grad + (row.to(tl.int64) * width + column) * dim + d
        tl.store(at, g.to(grad.dtype.element_ty), mask=(column < width) & (d < dim))
        s0, s1, s2, s3, s4 = s0 + g * x0, s1 + g * x1, s2 + g * x2, s3 + g * x3, s4 + g * x4
        s5, s6, s7, s8, s9 = s5 + g * x5, s6 + g * x6, s7 + g * x7, s8 + g * x8, s9 + g
        x0, x1, x2, x3, x4, x5 = x3, x4, x5, x6, x7, x8
    blocks = tl.cdiv(dim, BLOCK)
    part = image * (tl.num_programs(0) // blocks) + tl.program_id(0) // blocks
    partial += part * 10 * dim + d
    _store_five_sums(partial, s0, s1, s2, s3, s4, d, dim)
    _store_five_sums(partial + 5 * dim, s5, s6, s7, s8, s9, d, dim)


@triton.jit
def _store_five_sums(to, a, b, c, d, e, channel, dim):
    tl.store(to, tl.sum(a, 0, keep_dims=True), mask=channel < dim)
    tl.store(to + dim, tl.sum(b, 0, keep_dims=True), mask=channel < dim)
    tl.store(to + 2 * dim, tl.sum(c, 0, keep_dims=True), mask=channel < dim)
    tl.store(to + 3 * dim, tl.sum(d, 0, keep_dims=True), mask=channel < dim)
    tl.store(to + 4 * dim, tl.sum(e, 0, keep_dims=True), mask=channel < dim)
