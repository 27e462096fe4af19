"""Triton kernels of the fused scan: tokens are read and written at the places that the orders name.

A sequence is cut into segments, which are walked side by side, and segments are cut into tiles, whose gradients are
computed at once. A program is one warp wide and has one channel per lane. The N numbers of a channel's state sit in the
registers of its lane, so that the sum over states needs no exchange between lanes.

Conventions:

- The grid is (channel blocks x segments or tiles, directions K, images Bt). ``k`` and ``b`` are 64 bits wide, since
  every offset is a product with one of them.
- ``states`` and ``tiles`` are (Bt, K, segments or tiles, N, D), ``dt_sums`` is (Bt, K, segments, D). All are contiguous
  and in the dtype that is computed in, which is that of A.
- ``u_sb``, ``u_sl``, ``u_sk``, ``u_sd`` are the strides of u by image, row, direction and channel; ``B_sn`` is that by
  state.
- ``row`` is where a token's features are read, -1 for padding without any; ``token`` is where its output goes, -1 for
  none. They are the same in the spatial form. In scan order, a row is a step of the scan.
- ``unit`` is always 1. Multiplying by a number that the compiler does not know keeps it from loading several channels
  into one lane, and from spreading the tokens of a tile over several lanes.
"""

# mypy: ignore-errors
# ruff: noqa: SIM102

import triton
import triton.language as tl

LOCAL, OUTPUTS, TILES = 0, 1, 2
"""What a walk over a segment writes: its last state from a zero start, its outputs, or the state at each tile."""

_FREE = ['unit', 'u_sd', 'dt_sd']
_FREE_GRAD = [*_FREE, 'g_sd']


@triton.jit
def _softplus(x):
    # log1p(z) = log(1 + z) * z / ((1 + z) - 1) is exact where 1 + z has lost most of z.
    z = tl.exp(-tl.abs(x))
    w = 1 + z
    small = w == 1
    return tl.maximum(x, 0) + tl.where(small, z, tl.log(w) * (z / tl.where(small, 1, w - 1)))


@triton.jit
def _token_at(order, position, length, num_tokens):
    # What is past the end of the order, or names a token that there is not, counts as padding: no load or store that
    # follows can leave its tensor, whatever the order holds.
    token = tl.load(order + position, mask=position < length, other=-1)
    return tl.where((token >= 0) & (token < num_tokens), token, -1)


@triton.jit
def _compose(decay, value, next_decay, next_value):
    # Two steps h -> decay h + value, one after the other, are one such step: what an associative scan needs to know.
    return decay * next_decay, value * next_decay + next_value


@triton.jit
def _reverse_rows(x, ROWS: tl.constexpr, COLUMNS: tl.constexpr, STEPS: tl.constexpr):
    # tl.flip of the first dimension, which Triton has since 3.4 only: neighbours at distance 1, 2, 4, ... swap places.
    # Rows lie in one lane, so that all of this is but renaming its registers.
    width: tl.constexpr = x.dtype.primitive_bitwidth
    bits = x.to(tl.int64 if width == 64 else tl.int32, bitcast=True)
    for step in tl.static_range(STEPS):
        bits = tl.reshape(bits, (ROWS >> (step + 1), 2, 1 << step, COLUMNS))
        bits = bits ^ tl.xor_sum(bits, axis=1, keep_dims=True)
    return tl.reshape(bits, (ROWS, COLUMNS)).to(x.dtype, bitcast=True)


@triton.jit(do_not_specialize=_FREE)
def scan_kernel(
    u, dt, A, B, C, D, dt_bias, order, states, dt_sums, tiles, y,
    num_tokens, length, dim, d_state, segments, num_tiles,
    u_sb, u_sl, u_sk, u_sd, dt_sb, dt_sl, dt_sk, dt_sd, B_sb, B_sl, B_sk, B_sn, C_sb, C_sl, C_sk, C_sn, unit,
    SPATIAL: tl.constexpr, WRITE: tl.constexpr, SEGMENT: tl.constexpr, TILE: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Walk over one segment of one direction for a block of channels."""
    dtype = A.dtype.element_ty
    blocks = tl.cdiv(dim, BLOCK_D)
    block, segment = tl.program_id(0) % blocks, tl.program_id(0) // blocks
    k, b = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    directions = tl.num_programs(1)
    d, n = block * BLOCK_D + tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_N)
    in_d, in_n = d < dim, n < d_state
    in_state = in_n[:, None] & in_d[None, :]
    at_state = n[:, None] * dim + d[None, :] * unit
    row_of = (b * directions + k) * segments + segment

    a = tl.load(A + k * dim * d_state + d[None, :] * d_state * unit + n[:, None], mask=in_state, other=0)
    bias = tl.load(dt_bias + k * dim + d, mask=in_d, other=0)
    # The first walk (LOCAL) starts every segment from zero, and sums up the step sizes: exp(A times that sum) is by how
    # much the segment makes what enters it decay. The other walks start from the state that enters the segment.
    if WRITE == 1:
        skip = tl.load(D + k * dim + d, mask=in_d, other=0)
    if WRITE == 0:
        state = tl.zeros((BLOCK_N, BLOCK_D), dtype=dtype)
        dt_sum = tl.zeros((BLOCK_D,), dtype=dtype)
    else:
        state = tl.load(states + row_of * d_state * dim + at_state, mask=in_state, other=0)

    first = segment * SEGMENT
    for position in range(first, tl.minimum(first + SEGMENT, length)):
        token = _token_at(order + k * length, position, length, num_tokens).to(tl.int64)
        row = token if SPATIAL else position + token * 0
        here = row >= 0
        u_t = tl.load(u + b * u_sb + row * u_sl + k * u_sk + d * u_sd, mask=in_d & here, other=0).to(dtype)
        raw = tl.load(dt + b * dt_sb + row * dt_sl + k * dt_sk + d * dt_sd, mask=in_d & here, other=0).to(dtype)
        B_t = tl.load(B + b * B_sb + row * B_sl + k * B_sk + n * B_sn, mask=in_n & here, other=0).to(dtype)
        if WRITE == 2:
            if position % TILE == 0:
                tile = (b * directions + k) * num_tiles + position // TILE
                tl.store(tiles + tile * d_state * dim + at_state, state, mask=in_state)
        delta = _softplus(raw + bias)
        state = tl.exp(delta[None, :] * a) * state + (delta * u_t)[None, :] * B_t[:, None]
        if WRITE == 0:
            dt_sum += delta
        if WRITE == 1:
            C_t = tl.load(C + b * C_sb + row * C_sl + k * C_sk + n * C_sn, mask=in_n & here, other=0).to(dtype)
            out = tl.sum(state * C_t[:, None], axis=0) + skip * u_t
            place = ((b * directions + k) * num_tokens + token) * dim + d
            tl.store(y + place, out.to(y.dtype.element_ty), mask=in_d & (token >= 0))
    if WRITE == 0:
        tl.store(states + row_of * d_state * dim + at_state, state, mask=in_state)
        tl.store(dt_sums + row_of * dim + d, dt_sum, mask=in_d)


@triton.jit(do_not_specialize=['unit'])
def carry_kernel(
    A, states, dt_sums, dim, d_state, segments, unit,
    REVERSE: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Turn what each segment adds to the state that leaves it into the state that enters it, in place."""
    k, b = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    d, n = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_N)
    in_d = d < dim
    in_state = (n < d_state)[:, None] & in_d[None, :]
    at_state = n[:, None] * dim + d[None, :] * unit
    a = tl.load(A + k * dim * d_state + d[None, :] * d_state * unit + n[:, None], mask=in_state, other=0)
    state = tl.zeros((BLOCK_N, BLOCK_D), dtype=A.dtype.element_ty)
    # Each segment's own contribution is replaced by what enters it, and then added to it, decayed over the segment.
    for step in range(segments):
        segment = segments - 1 - step if REVERSE else step
        row_of = (b * tl.num_programs(1) + k) * segments + segment
        place = states + row_of * d_state * dim + at_state
        own = tl.load(place, mask=in_state, other=0)
        delta = tl.load(dt_sums + row_of * dim + d, mask=in_d, other=0)
        tl.store(place, state, mask=in_state)
        state = tl.exp(delta[None, :] * a) * state + own


@triton.jit(do_not_specialize=_FREE_GRAD)
def reverse_kernel(
    grad, dt, A, C, dt_bias, order, states, dt_sums, tiles,
    num_tokens, length, dim, d_state, segments, num_tiles,
    g_sb, g_sk, g_sl, g_sd, dt_sb, dt_sl, dt_sk, dt_sd, C_sb, C_sl, C_sk, C_sn, unit,
    SPATIAL: tl.constexpr, WRITE: tl.constexpr, SEGMENT: tl.constexpr, TILE: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Walk backwards over one segment: gradients of the states, as they come to a token from the ones after it."""
    dtype = A.dtype.element_ty
    blocks = tl.cdiv(dim, BLOCK_D)
    block, segment = tl.program_id(0) % blocks, tl.program_id(0) // blocks
    k, b = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    directions = tl.num_programs(1)
    d, n = block * BLOCK_D + tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_N)
    in_d, in_n = d < dim, n < d_state
    in_state = in_n[:, None] & in_d[None, :]
    at_state = n[:, None] * dim + d[None, :] * unit
    row_of = (b * directions + k) * segments + segment

    a = tl.load(A + k * dim * d_state + d[None, :] * d_state * unit + n[:, None], mask=in_state, other=0)
    bias = tl.load(dt_bias + k * dim + d, mask=in_d, other=0)
    if WRITE == 0:
        state = tl.zeros((BLOCK_N, BLOCK_D), dtype=dtype)
        dt_sum = tl.zeros((BLOCK_D,), dtype=dtype)
    else:
        state = tl.load(states + row_of * d_state * dim + at_state, mask=in_state, other=0)

    first = segment * SEGMENT
    last = tl.minimum(first + SEGMENT, length) - 1
    for step in range(last - first + 1):
        position = last - step
        token = _token_at(order + k * length, position, length, num_tokens).to(tl.int64)
        row = token if SPATIAL else position + token * 0
        here = row >= 0
        raw = tl.load(dt + b * dt_sb + row * dt_sl + k * dt_sk + d * dt_sd, mask=in_d & here, other=0).to(dtype)
        C_t = tl.load(C + b * C_sb + row * C_sl + k * C_sk + n * C_sn, mask=in_n & here, other=0).to(dtype)
        at_grad = grad + b * g_sb + k * g_sk + token * g_sl + d * g_sd
        g_t = tl.load(at_grad, mask=in_d & (token >= 0), other=0).to(dtype)
        if WRITE == 2:
            if (position % TILE == TILE - 1) | (position == length - 1):
                tile = (b * directions + k) * num_tiles + position // TILE
                tl.store(tiles + tile * d_state * dim + at_state, state, mask=in_state)
        # What reaches the state before this token: the gradient of its output and of all later ones, decayed once more.
        delta = _softplus(raw + bias)
        state = tl.exp(delta[None, :] * a) * (state + g_t[None, :] * C_t[:, None])
        if WRITE == 0:
            dt_sum += delta
    if WRITE == 0:
        tl.store(states + row_of * d_state * dim + at_state, state, mask=in_state)
        tl.store(dt_sums + row_of * dim + d, dt_sum, mask=in_d)


@triton.jit(do_not_specialize=_FREE_GRAD)
def gradient_kernel(
    grad, u, dt, A, B, C, D, dt_bias, order, tiles, grad_tiles, d_u, d_dt, d_B, d_C, d_D, d_dt_bias,
    num_tokens, rows, length, dim, d_state, num_tiles,
    g_sb, g_sk, g_sl, g_sd, u_sb, u_sl, u_sk, u_sd, dt_sb, dt_sl, dt_sk, dt_sd,
    B_sb, B_sl, B_sk, B_sn, C_sb, C_sl, C_sk, C_sn, unit,
    SPATIAL: tl.constexpr, TILE: tl.constexpr, STEPS: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Compute all gradients of one tile of tokens for a block of channels.

    States of the tile are computed again from the one before it, for one n at a time. Sums over tokens (A, D, dt_bias)
    are written per tile, that of A over ``tiles``; those over channels (B, C) per block; that over directions (u) per
    direction: the caller adds them up, in a fixed order. ``STEPS`` is the binary logarithm of ``TILE``.
    """
    dtype = A.dtype.element_ty
    blocks = tl.cdiv(dim, BLOCK_D)
    block, tile = tl.program_id(0) % blocks, tl.program_id(0) // blocks
    k, b = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    num_directions = tl.num_programs(1)
    directions, batch = num_directions.to(tl.int64), tl.num_programs(2)
    d, t = block * BLOCK_D + tl.arange(0, BLOCK_D), tl.arange(0, TILE)
    in_d = d < dim
    position = tile * TILE + t
    token = _token_at(order + k * length, position, length, num_tokens)
    row = token
    if not SPATIAL:
        row = tl.where(position < length, position, -1)
    here, seen = row >= 0, token >= 0
    tile_in, tile_out = here[:, None] & in_d[None, :], seen[:, None] & in_d[None, :]
    cols = d[None, :]

    u_t = tl.load(u + b * u_sb + k * u_sk + row[:, None] * u_sl + cols * u_sd, mask=tile_in, other=0).to(dtype)
    raw = tl.load(dt + b * dt_sb + k * dt_sk + row[:, None] * dt_sl + cols * dt_sd, mask=tile_in, other=0).to(dtype)
    # The states' gradients come from behind: their tokens are taken from the last to the first.
    mirrored = tile * TILE + TILE - 1 - t
    mirrored_token = _token_at(order + k * length, mirrored, length, num_tokens)
    next_row = _token_at(order + k * length, mirrored + 1, length, num_tokens)
    mirrored_row = mirrored_token
    if not SPATIAL:
        mirrored_row = tl.where(mirrored < length, mirrored, -1)
        next_row = tl.where(mirrored + 1 < length, mirrored + 1, -1)
    next_in = (next_row >= 0)[:, None] & in_d[None, :]
    next_raw = tl.load(dt + b * dt_sb + k * dt_sk + next_row[:, None] * dt_sl + cols * dt_sd, mask=next_in, other=0)
    at_grad = grad + b * g_sb + k * g_sk + token[:, None] * g_sl + cols * g_sd
    g_t = tl.load(at_grad, mask=tile_out, other=0).to(dtype)
    at_grad = grad + b * g_sb + k * g_sk + mirrored_token[:, None] * g_sl + cols * g_sd
    mirrored_g = tl.load(at_grad, mask=(mirrored_token >= 0)[:, None] & in_d[None, :], other=0).to(dtype)
    bias = tl.load(dt_bias + k * dim + d, mask=in_d, other=0)
    skip = tl.load(D + k * dim + d, mask=in_d, other=0)
    raw += bias[None, :]
    delta, next_delta = _softplus(raw), _softplus(next_raw.to(dtype) + bias[None, :])
    delta_u = delta * u_t
    is_first = (t == 0)[:, None]

    d_input = tl.zeros((TILE, BLOCK_D), dtype=dtype)
    d_delta = tl.zeros((TILE, BLOCK_D), dtype=dtype)
    at_tile = ((b * directions + k) * num_tiles + tile) * d_state * dim
    at_part = row * num_directions * d_state
    part = ((block * batch + b) * rows * directions + k) * d_state
    # One number of the state at a time, for all tokens of the tile: the recurrence over them is an associative scan,
    # once forwards for the state and once backwards (on mirrored rows) for its gradient. What comes from outside of the
    # tile enters through the first row of either.
    for n in range(d_state):
        a = tl.load(A + k * dim * d_state + d * d_state + n, mask=in_d, other=0)
        B_t = tl.load(B + b * B_sb + k * B_sk + row * B_sl + n * B_sn, mask=here, other=0).to(dtype)
        at_C = C + b * C_sb + k * C_sk + mirrored_row * C_sl + n * C_sn
        mirrored_C = tl.load(at_C, mask=mirrored_row >= 0, other=0).to(dtype)
        before = tl.load(tiles + at_tile + n * dim + d, mask=in_d, other=0)
        after = tl.load(grad_tiles + at_tile + n * dim + d, mask=in_d, other=0)
        decay = tl.exp(delta * a[None, :])
        value = delta_u * B_t[:, None]
        start = tl.where(is_first, decay * before[None, :], 0)
        _, state = tl.associative_scan((decay, value + start), 0, _compose)
        incoming = mirrored_g * mirrored_C[:, None] + tl.where(is_first, after[None, :], 0)
        _, mirrored_d_state = tl.associative_scan((tl.exp(next_delta * a[None, :]), incoming), 0, _compose)
        d_state_t = _reverse_rows(mirrored_d_state, TILE, BLOCK_D, STEPS)
        # What the state before adds, as a difference: off by the rounding of `value`, which only shows if dt is large.
        d_exponent = d_state_t * (state - value)
        d_delta += d_exponent * a[None, :]
        d_input += d_state_t * B_t[:, None]
        tl.store(tiles + at_tile + n * dim + d, tl.sum(d_exponent * delta, axis=0), mask=in_d)
        tl.store(d_B + part + n + at_part, tl.sum(d_state_t * delta_u, axis=1), mask=here)
        tl.store(d_C + part + n + at_part, tl.sum(g_t * state, axis=1), mask=here)

    # d_delta has come through the decay, d_input * u through the input; softplus' slope is the logistic function.
    d_raw = (d_delta + d_input * u_t) / (1 + tl.exp(-raw))
    d_u_t = d_input * delta + skip[None, :] * g_t
    by_direction = (b * rows * directions + k) * dim
    at_dt = row[:, None] * (num_directions * dim) + cols * unit
    if SPATIAL:
        at_u = row[:, None] * dim + cols * unit
        tl.store(d_u + (b * directions + k) * rows * dim + at_u, d_u_t.to(d_u.dtype.element_ty), mask=tile_in)
    else:
        tl.store(d_u + by_direction + at_dt, d_u_t.to(d_u.dtype.element_ty), mask=tile_in)
    tl.store(d_dt + by_direction + at_dt, d_raw.to(d_dt.dtype.element_ty), mask=tile_in)
    at_sum = ((tile * batch + b) * directions + k) * dim + d
    tl.store(d_D + at_sum, tl.sum(g_t * u_t, axis=0), mask=in_d)
    tl.store(d_dt_bias + at_sum, tl.sum(d_raw, axis=0), mask=in_d)
