"""Triton kernels of residual sum, rotary embedding and RMSNorm.

With R turning each pair of channels by its angle::

    residual = R (hidden + before)     normed = residual * rstd * weight     rstd = 1 / sqrt(mean of residual^2 + eps)

Tokens of all images are numbered in one row. A program holds ``ROWS`` of them, whole. Strides are by image (``sb``) and
by token (``sl``).
"""

# mypy: ignore-errors

import triton
import triton.language as tl

from .rows import reciprocal_root

_SIZES = ['count', 'tokens', 'chunk']


@triton.jit
def _turned(x, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    # (a, b) of each pair becomes (-b, a).
    a, b = tl.split(tl.reshape(x, (ROWS, BLOCK // 2, 2)))
    return tl.interleave(-b, a)


@triton.jit(do_not_specialize=_SIZES)
def forward_kernel(
    hidden, before, weight, cos, sin, normed, residual,
    count, tokens, dim, hidden_sb, hidden_sl, before_sb, before_sl,
    EPS: tl.constexpr, ADD: tl.constexpr, ROTATE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the new residual stream and its norm, for ``ROWS`` tokens."""
    dtype = residual.dtype.element_ty
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    d = tl.arange(0, BLOCK)[None, :]
    image, token = row // tokens, row % tokens
    in_d = d < dim
    inside = (row < count) & in_d
    x = tl.load(hidden + image * hidden_sb + token * hidden_sl + d, mask=inside, other=0).to(dtype)
    if ADD:
        x += tl.load(before + image * before_sb + token * before_sl + d, mask=inside, other=0).to(dtype)
    if ROTATE:
        cosine = tl.load(cos + token * dim + d, mask=inside, other=0).to(dtype)
        sine = tl.load(sin + token * dim + d, mask=inside, other=0).to(dtype)
        x = x * cosine + _turned(x, ROWS, BLOCK) * sine
    w = tl.load(weight + d, mask=in_d, other=0).to(dtype)
    y = x * reciprocal_root(x, dim, EPS, 1) * w
    tl.store(residual + row * dim + d, x, mask=inside)
    tl.store(normed + row * dim + d, y.to(normed.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=_SIZES)
def backward_kernel(
    grad_normed, grad_residual, residual, weight, cos, sin, grad_sum, partial,
    count, tokens, dim, chunk, normed_sb, normed_sl, stream_sb, stream_sl, residual_sb, residual_sl,
    EPS: tl.constexpr, ROTATE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Go back for one chunk of tokens; ``partial`` (chunks, C) takes its share of the gradient of the weight."""
    dtype = grad_sum.dtype.element_ty
    first = tl.program_id(0).to(tl.int64) * chunk
    end = tl.minimum(first + chunk, count)
    d = tl.arange(0, BLOCK)[None, :]
    in_d = d < dim
    w = tl.load(weight + d, mask=in_d, other=0).to(dtype)
    grad_weight = tl.zeros((ROWS, BLOCK), dtype=dtype)
    for start in range(first, end, ROWS):
        row = start + tl.arange(0, ROWS)[:, None]
        image, token = row // tokens, row % tokens
        inside = (row < end) & in_d
        x = tl.load(residual + image * residual_sb + token * residual_sl + d, mask=inside, other=0).to(dtype)
        grad = tl.load(grad_normed + image * normed_sb + token * normed_sl + d, mask=inside, other=0).to(dtype)
        stream = tl.load(grad_residual + image * stream_sb + token * stream_sl + d, mask=inside, other=0).to(dtype)
        rstd = reciprocal_root(x, dim, EPS, 1)
        x_hat = x * rstd
        by_norm = grad * w
        along = tl.sum(by_norm * x_hat, 1, keep_dims=True) / dim
        grad_weight += grad * x_hat
        whole = stream + (by_norm - x_hat * along) * rstd
        if ROTATE:  # by the transposed matrix: the two channels of a pair need not have the same angle
            cosine = tl.load(cos + token * dim + d, mask=inside, other=0).to(dtype)
            sine = tl.load(sin + token * dim + d, mask=inside, other=0).to(dtype)
            whole = whole * cosine - _turned(whole * sine, ROWS, BLOCK)
        tl.store(grad_sum + row * dim + d, whole, mask=inside)
    at = partial + tl.program_id(0).to(tl.int64) * dim + tl.arange(0, BLOCK)
    tl.store(at, tl.sum(grad_weight, 0), mask=tl.arange(0, BLOCK) < dim)
