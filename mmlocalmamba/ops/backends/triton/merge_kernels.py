"""Triton kernels of both merges: gating the scans of all directions by SCAttn and adding them up.

With x_k = y_k silu(z) where z gates first (LocalVim), x_k = y_k where the sum is normalised (LocalVMamba)::

    mean_k = mean over tokens of LN(x_k), without affine     total = sum over directions of gates_k x_k
    out    = total, or norm(total) silu(z)

A tile is (directions, tokens, channels), and holds every direction of a few tokens. The number of directions is padded
to ``ALL``, a power of two. Strides are by image (``sb``), by direction (``sk``) and by token (``sl``). ``gates``,
``mean`` and their gradients are (Bt, K, D), contiguous, in the dtype that is computed in.
"""

# mypy: ignore-errors

import triton
import triton.language as tl

from .rows import centre, gelu, logistic, reciprocal_root, silu, silu_slope

_SIZES = ['tokens', 'chunk', 'chunks', 'rows', 'hidden_dim']


@triton.jit
def _axes(ALL: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr):
    k, t, d = tl.arange(0, ALL), tl.arange(0, TILE), tl.arange(0, BLOCK)
    return k[:, None, None].to(tl.int64), t[None, :, None].to(tl.int64), d[None, None, :]


@triton.jit
def _load(x, offsets, inside, dtype: tl.constexpr):
    return tl.load(x + offsets, mask=inside, other=0).to(dtype)


@triton.jit(do_not_specialize=_SIZES)
def mean_kernel(
    y, z, partial, tokens, dim, chunk, y_sb, y_sk, y_sl, z_sb, z_sl,
    EPS: tl.constexpr, Z_FIRST: tl.constexpr, K: tl.constexpr, ALL: tl.constexpr, TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Add up the normalised tokens of one chunk; ``partial`` is (chunks, Bt, K, D)."""
    dtype = partial.dtype.element_ty
    part, image = tl.program_id(0), tl.program_id(1).to(tl.int64)
    k, t, d = _axes(ALL, TILE, BLOCK)
    first = part * chunk
    end = tl.minimum(first + chunk, tokens)
    in_d, in_kd = d < dim, (k < K) & (d < dim)
    total = tl.zeros((ALL, TILE, BLOCK), dtype=dtype)
    for start in range(first, end, TILE):
        token = start + t
        x = _load(y, image * y_sb + k * y_sk + token * y_sl + d, (token < end) & in_kd, dtype)
        if Z_FIRST:
            x *= silu(_load(z, image * z_sb + token * z_sl + d, (token < end) & in_d, dtype))
        x = centre(x, in_kd, dim, 2)
        total += x * reciprocal_root(x, dim, EPS, 2)
    row = (part.to(tl.int64) * tl.num_programs(1) + image) * K + k
    tl.store(partial + row * dim + d, tl.sum(total, 1, keep_dims=True), mask=in_kd)


@triton.jit(do_not_specialize=_SIZES)
def hidden_kernel(
    partial, mean, hidden, norm_weight, norm_bias, weight, bias, tokens, rows, dim, hidden_dim, chunks,
    ROWS: tl.constexpr, CHUNKS: tl.constexpr, OUT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add the chunks up to ``mean``, apply the norm's affine, the gate's first layer and GELU.

    A row is one direction of one image.
    """
    dtype = mean.dtype.element_ty
    out = tl.program_id(0) * OUT + tl.arange(0, OUT)
    row = tl.program_id(1).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    in_out, in_rows = out < hidden_dim, row < rows
    products = tl.zeros((ROWS, OUT, BLOCK), dtype=dtype)
    for start in range(0, dim, BLOCK):
        d = start + tl.arange(0, BLOCK)
        in_d = d < dim
        average = _sum_of_chunks(partial, row, d, rows, dim, chunks, ROWS, CHUNKS, BLOCK) / tokens
        if tl.program_id(0) == 0:
            tl.store(mean + row[:, None] * dim + d, average, mask=in_rows[:, None] & in_d[None, :])
        normed = average * _load(norm_weight, d, in_d, dtype)[None, :] + _load(norm_bias, d, in_d, dtype)[None, :]
        w = _load(weight, out[:, None] * dim + d[None, :], in_out[:, None] & in_d[None, :], dtype)
        products += normed[:, None, :] * w[None, :, :]
    x = tl.sum(products, 2) + _load(bias, out, in_out, dtype)[None, :]
    tl.store(hidden + row[:, None] * hidden_dim + out[None, :], gelu(x), mask=in_rows[:, None] & in_out[None, :])


@triton.jit
def _sum_of_chunks(partial, row, d, rows, dim, chunks, ROWS: tl.constexpr, CHUNKS: tl.constexpr, BLOCK: tl.constexpr):
    c = tl.arange(0, CHUNKS)[:, None, None].to(tl.int64)
    total = tl.zeros((CHUNKS, ROWS, BLOCK), dtype=partial.dtype.element_ty)
    inside = (row < rows)[None, :, None] & (d < dim)[None, None, :]
    for start in range(0, chunks, CHUNKS):
        at = ((start + c) * rows + row[None, :, None]) * dim + d[None, None, :]
        total += tl.load(partial + at, mask=(start + c < chunks) & inside, other=0)
    return tl.sum(total, 0)


@triton.jit(do_not_specialize=_SIZES)
def gate_kernel(
    hidden, gates, weight, bias, rows, dim, hidden_dim,
    ROWS: tl.constexpr, OUT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Apply the gate's second layer and the logistic function."""
    dtype = gates.dtype.element_ty
    d = tl.program_id(0) * OUT + tl.arange(0, OUT)
    row = tl.program_id(1).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    in_d, in_rows = d < dim, row < rows
    products = tl.zeros((ROWS, OUT, BLOCK), dtype=dtype)
    for start in range(0, hidden_dim, BLOCK):
        h = start + tl.arange(0, BLOCK)
        in_h = h < hidden_dim
        x = _load(hidden, row[:, None] * hidden_dim + h[None, :], in_rows[:, None] & in_h[None, :], dtype)
        w = _load(weight, d[:, None] * hidden_dim + h[None, :], in_d[:, None] & in_h[None, :], dtype)
        products += x[:, None, :] * w[None, :, :]
    x = tl.sum(products, 2) + _load(bias, d, in_d, dtype)[None, :]
    tl.store(gates + row[:, None] * dim + d[None, :], logistic(x), mask=in_rows[:, None] & in_d[None, :])


@triton.jit(do_not_specialize=_SIZES)
def merge_kernel(
    y, z, gates, norm_weight, norm_bias, out, tokens, dim, y_sb, y_sk, y_sl, z_sb, z_sl,
    EPS: tl.constexpr, Z_FIRST: tl.constexpr, K: tl.constexpr, ALL: tl.constexpr, TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Add the gated directions up; without ``Z_FIRST``, normalise the sum. Then multiply by SiLU(z)."""
    dtype = gates.dtype.element_ty
    image = tl.program_id(1).to(tl.int64)
    k, t, d = _axes(ALL, TILE, BLOCK)
    token = tl.program_id(0) * TILE + t
    in_d, in_kd, seen = d < dim, (k < K) & (d < dim), token < tokens
    gate = _load(gates, (image * K + k) * dim + d, in_kd, dtype)
    x = tl.sum(gate * _load(y, image * y_sb + k * y_sk + token * y_sl + d, seen & in_kd, dtype), 0, keep_dims=True)
    if not Z_FIRST:
        x = centre(x, in_d, dim, 2)
        x = x * reciprocal_root(x, dim, EPS, 2) * _load(norm_weight, d, in_d, dtype) + _load(norm_bias, d, in_d, dtype)
    x *= silu(_load(z, image * z_sb + token * z_sl + d, seen & in_d, dtype))
    tl.store(out + (image * tokens + token) * dim + d, x.to(out.dtype.element_ty), mask=seen & in_d)


@triton.jit(do_not_specialize=_SIZES)
def grad_gates_kernel(
    grad_out, y, z, gates, norm_weight, norm_bias, grad_sum, grad_z, partial,
    tokens, dim, chunk, grad_sb, grad_sl, y_sb, y_sk, y_sl, z_sb, z_sl,
    EPS: tl.constexpr, Z_FIRST: tl.constexpr, K: tl.constexpr, ALL: tl.constexpr, TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Sum the gradients of the gates over one chunk of tokens; without ``Z_FIRST``, go back through the norm first.

    ``partial`` is (chunks, Bt, K, D); without ``Z_FIRST``, (chunks, Bt, K + 2, D), and its last two rows take the
    gradients of the norm's weight and bias. Then ``grad_sum`` and ``grad_z`` (Bt, L, D) are written too.
    """
    dtype = partial.dtype.element_ty
    part, image = tl.program_id(0), tl.program_id(1).to(tl.int64)
    k, t, d = _axes(ALL, TILE, BLOCK)
    first = part * chunk
    end = tl.minimum(first + chunk, tokens)
    in_d, in_kd = d < dim, (k < K) & (d < dim)
    grad_gates = tl.zeros((ALL, TILE, BLOCK), dtype=dtype)
    grad_weight = tl.zeros((1, TILE, BLOCK), dtype=dtype)
    grad_bias = tl.zeros((1, TILE, BLOCK), dtype=dtype)
    gate = _load(gates, (image * K + k) * dim + d, in_kd, dtype)
    for start in range(first, end, TILE):
        token = start + t
        inside = (token < end) & in_d
        y_t = _load(y, image * y_sb + k * y_sk + token * y_sl + d, (token < end) & in_kd, dtype)
        z_t = _load(z, image * z_sb + token * z_sl + d, inside, dtype)
        grad = _load(grad_out, image * grad_sb + token * grad_sl + d, inside, dtype)
        if Z_FIRST:
            grad *= silu(z_t)
        else:
            x = centre(tl.sum(gate * y_t, 0, keep_dims=True), in_d, dim, 2)
            rstd = reciprocal_root(x, dim, EPS, 2)
            x *= rstd
            weight, bias = _load(norm_weight, d, in_d, dtype), _load(norm_bias, d, in_d, dtype)
            at = (image * tokens + token) * dim + d
            d_z = grad * (x * weight + bias) * silu_slope(z_t)
            tl.store(grad_z + at, d_z.to(grad_z.dtype.element_ty), mask=inside)
            grad *= silu(z_t)
            grad_weight += grad * x
            grad_bias += grad
            grad *= weight
            grad = (centre(grad, in_d, dim, 2) - x * (tl.sum(grad * x, 2, keep_dims=True) / dim)) * rstd
            tl.store(grad_sum + at, grad.to(grad_sum.dtype.element_ty), mask=inside)
        grad_gates += grad * y_t
    row = part.to(tl.int64) * tl.num_programs(1) + image
    if Z_FIRST:
        tl.store(partial + (row * K + k) * dim + d, tl.sum(grad_gates, 1, keep_dims=True), mask=in_kd)
    else:
        partial += row * (K + 2) * dim + d
        tl.store(partial + k * dim, tl.sum(grad_gates, 1, keep_dims=True), mask=in_kd)
        tl.store(partial + K * dim, tl.sum(grad_weight, 1, keep_dims=True), mask=in_d)
        tl.store(partial + (K + 1) * dim, tl.sum(grad_bias, 1, keep_dims=True), mask=in_d)


@triton.jit(do_not_specialize=_SIZES)
def backward_kernel(
    grad_sum, y, z, gates, grad_mean, grad_y, grad_z,
    tokens, dim, grad_sb, grad_sl, y_sb, y_sk, y_sl, z_sb, z_sl,
    EPS: tl.constexpr, Z_FIRST: tl.constexpr, K: tl.constexpr, ALL: tl.constexpr, TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Go back through the sum and through the mean of the normalised tokens; ``grad_z`` only with ``Z_FIRST``."""
    dtype = gates.dtype.element_ty
    image = tl.program_id(1).to(tl.int64)
    k, t, d = _axes(ALL, TILE, BLOCK)
    token = tl.program_id(0) * TILE + t
    in_d, in_kd, seen = d < dim, (k < K) & (d < dim), token < tokens
    table = (image * K + k) * dim + d
    y_t = _load(y, image * y_sb + k * y_sk + token * y_sl + d, seen & in_kd, dtype)
    x = y_t
    if Z_FIRST:
        z_t = _load(z, image * z_sb + token * z_sl + d, seen & in_d, dtype)
        x = y_t * silu(z_t)
    x = centre(x, in_kd, dim, 2)
    rstd = reciprocal_root(x, dim, EPS, 2)
    x *= rstd
    through = _load(grad_mean, table, in_kd, dtype)
    by_norm = (centre(through, in_kd, dim, 2) - x * (tl.sum(through * x, 2, keep_dims=True) / dim)) * rstd
    grad = _load(grad_sum, image * grad_sb + token * grad_sl + d, seen & in_d, dtype)
    grad = grad * _load(gates, table, in_kd, dtype) + by_norm
    if Z_FIRST:
        d_z = tl.sum(grad * y_t, 0, keep_dims=True) * silu_slope(z_t)
        tl.store(grad_z + (image * tokens + token) * dim + d, d_z.to(grad_z.dtype.element_ty), mask=seen & in_d)
        grad *= silu(z_t)
    tl.store(grad_y + ((image * K + k) * tokens + token) * dim + d, grad.to(grad_y.dtype.element_ty), mask=seen & in_kd)
