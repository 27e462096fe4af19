"""The scan's backward kernels: one walks over segments for their own share of the gradients, the other does the rest.

``gradient_kernel`` goes through a segment from its last chunk to its first. For each chunk it

1. computes the step sizes, as the forward does;
2. walks forwards from the state that the forward has kept, and notes the state before every ``QUAD`` tokens;
3. walks backwards, ``QUAD`` tokens at a time: forwards over them once more, with states and decays in registers, and
   backwards with the gradient of the state;
4. takes the gradients of the step sizes through softplus and their projection.

What is noted lies in a buffer of the program's own, which stays in the cache. The N numbers of a state are spread over
a few lanes, and so are the channels: that makes the sums over either short. No sum uses atomics: those over channels
are written per block of channels, those over tokens per segment and image, and the caller adds them up.
"""

# mypy: ignore-errors

import triton
import triton.language as tl

from .scan_steps import (
    LN_2,
    decay,
    decay_rate,
    dot,
    hidden_zero,
    load_dt,
    load_dt_weight,
    load_tile,
    locate,
    softplus_slope,
    step_at,
    store_tile,
)

QUAD = tl.constexpr(4)
"""Tokens whose states are in registers at once."""


@triton.jit
def _note_step_sizes(
    deltas, dt, dt_weight, dt_bias, order, work, start, end, num_tokens, length, directions, segments, blocks,
    c, dim, rank, dt_sb, dt_sl, dt_sk, dt_sd,
    SPATIAL: tl.constexpr, TILE: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """Write the step sizes of a chunk into the buffer, (CHUNK, D)."""
    hide = hidden_zero(start)
    for first in range(start, end, TILE):
        low = load_tile(
            dt, order, work, first, end, num_tokens, length, directions, segments, blocks, dim, rank,
            dt_sb, dt_sl, dt_sk, dt_sd, c, hide, SPATIAL, TILE, BLOCK_D, BLOCK_R,
        )  # fmt: skip
        store_tile(
            deltas + (first - start) * BLOCK_D, low, dt_weight, dt_bias, work, first, end, directions, segments, blocks,
            dim, rank, c, hide, TILE, BLOCK_D, BLOCK_R,
        )  # fmt: skip


@triton.jit
def _backward_step(d_state, d_A, d_D, u, g, delta, B, C, skip, rate, decayed, before):
    """Go back over one token: the state was ``before`` it, and has decayed by ``decayed``.

    Gives the gradient of the state before the token, the gradients of A and D so far, and those of the token's u,
    delta and B.
    """
    d_state += g[:, None] * C[None, :]
    d_B = tl.sum(d_state * (delta * u)[:, None], axis=0)
    d_input = tl.sum(d_state * B[None, :], axis=1)
    d_state *= decayed
    d_exponent = d_state * before
    d_delta = tl.sum(d_exponent * rate, axis=1)
    if rate.dtype == tl.float32:
        d_delta = d_delta * LN_2
    d_A += d_exponent * delta[:, None]
    return d_state, d_A, d_D + g * u, d_input * delta + skip * g, d_delta + d_input * u, d_B


@triton.jit
def _entering_gradient(rate, own_grads, dt_sums, own, segment, segments, dim, d_state, d, n, mask):
    """Give the gradient of the state that leaves a segment, from what all later ones add to it, (D, N)."""
    grad = tl.zeros_like(rate)
    for back in range(segments - 1 - segment):
        later = own + segments - 1 - back
        delta = tl.load(dt_sums + later * dim + d, mask=d < dim, other=0)
        added = tl.load(own_grads + later * d_state * dim + d[:, None] * d_state + n[None, :], mask=mask, other=0)
        grad = decay(delta[:, None], rate) * grad + added
    return grad


@triton.jit
def segment_gradient_kernel(
    grad, dt, A, C, dt_bias, dt_weight, order, own_grads, dt_sums, buffer,
    works, num_tokens, length, segment_length, dim, d_state, rank, directions, segments, blocks,
    g_sb, g_sk, g_sl, g_sd, dt_sb, dt_sl, dt_sk, dt_sd, C_sb, C_sl, C_sk, C_sn,
    SPATIAL: tl.constexpr, LOG_A: tl.constexpr, WHOLE: tl.constexpr, TILE: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """Walk backwards over segments, each as if nothing came after it.

    Writes the gradient of the state that enters each, ``own_grads`` (Bt, K, segments, D, N), and the sum of its step
    sizes, ``dt_sums`` (Bt, K, segments, D).
    """
    dtype = A.dtype.element_ty
    n, c = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_D)
    in_n = (n < d_state) | WHOLE
    at_buffer = buffer + tl.program_id(0).to(tl.int64) * TILE * BLOCK_D
    for work in range(tl.program_id(0), works, tl.num_programs(0)):
        _, segment, k, b, d = locate(work, directions, segments, blocks, c, 0, BLOCK_D)
        in_d = (d < dim) | WHOLE
        in_state = in_d[:, None] & in_n[None, :]
        at_state = d[:, None] * d_state + n[None, :]
        rate = decay_rate(tl.load(A + k * dim * d_state + at_state, mask=in_state, other=-1), LOG_A)
        at_g, at_C = grad + b * g_sb + k * g_sk, C + b * C_sb + k * C_sk
        at_order = order + k * length
        first = segment * segment_length
        last = tl.minimum(first + segment_length, length)
        num_tiles = tl.cdiv(last - first, TILE)

        d_state_t = tl.zeros((BLOCK_D, BLOCK_N), dtype=dtype)
        dt_sum = tl.zeros((BLOCK_D,), dtype=dtype)
        next_token, next_row = step_at(at_order, last - 1, last, num_tokens, SPATIAL)
        next_g = tl.load(at_g + next_token * g_sl + d * g_sd, mask=in_d & (next_token >= 0), other=0)
        next_C = tl.load(at_C + next_row * C_sl + n * C_sn, mask=in_n & (next_row >= 0), other=0)
        start = first + (num_tiles - 1) * TILE
        low = load_tile(
            dt, order, work, start, last, num_tokens, length, directions, segments, blocks, dim, rank,
            dt_sb, dt_sl, dt_sk, dt_sd, c, hidden_zero(start), SPATIAL, TILE, BLOCK_D, BLOCK_R,
        )  # fmt: skip
        for back in range(num_tiles):
            start = first + (num_tiles - 1 - back) * TILE
            hide = hidden_zero(start)
            tl.debug_barrier()
            store_tile(
                at_buffer, low, dt_weight, dt_bias, work, start, last, directions, segments, blocks, dim, rank, c, hide,
                TILE, BLOCK_D, BLOCK_R,
            )  # fmt: skip
            tl.debug_barrier()
            # Before the first tile there is nothing: the end that is given leaves no step.
            end = tl.where(start > first, last, 0)
            low = load_tile(
                dt, order, work, tl.maximum(start - TILE, first), end, num_tokens, length, directions, segments, blocks,
                dim, rank, dt_sb, dt_sl, dt_sk, dt_sd, c, hide, SPATIAL, TILE, BLOCK_D, BLOCK_R,
            )  # fmt: skip
            steps = tl.minimum(TILE, last - start)
            for step in range(steps):
                position = start + steps - 1 - step
                g_t, C_t = next_g.to(dtype), next_C.to(dtype)
                delta = tl.load(at_buffer + (position - start) * BLOCK_D + c)
                before = tl.maximum(position - 1, first)
                next_token, next_row = step_at(at_order, before, last, num_tokens, SPATIAL)
                next_g = tl.load(at_g + next_token * g_sl + d * g_sd, mask=in_d & (next_token >= 0), other=0)
                next_C = tl.load(at_C + next_row * C_sl + n * C_sn, mask=in_n & (next_row >= 0), other=0)
                d_state_t = decay(delta[:, None], rate) * (d_state_t + g_t[:, None] * C_t[None, :])
                dt_sum += delta
        own = (b * directions + k) * segments + segment
        tl.store(own_grads + own * d_state * dim + at_state, d_state_t, mask=in_state)
        tl.store(dt_sums + own * dim + d, dt_sum, mask=in_d)


@triton.jit
def _load_token(
    start, step, end, order, u, g, B, C, deltas, num_tokens, c, d, n, in_d, in_n,
    u_sl, u_sd, g_sl, g_sd, B_sl, B_sn, C_sl, C_sn,
    SPATIAL: tl.constexpr, BLOCK_D: tl.constexpr, dtype: tl.constexpr,
):  # fmt: skip
    """Load a token's row, u, gradient of the output, step sizes, B and C."""
    token, row = step_at(order, start + step, end, num_tokens, SPATIAL)
    u_t = tl.load(u + row * u_sl + d * u_sd, mask=in_d & (row >= 0), other=0).to(dtype)
    g_t = tl.load(g + token * g_sl + d * g_sd, mask=in_d & (token >= 0), other=0).to(dtype)
    B_t = tl.load(B + row * B_sl + n * B_sn, mask=in_n & (row >= 0), other=0).to(dtype)
    C_t = tl.load(C + row * C_sl + n * C_sn, mask=in_n & (row >= 0), other=0).to(dtype)
    return row, u_t, g_t, tl.load(deltas + step * BLOCK_D + c), B_t, C_t


@triton.jit
def _load_sums(to_BC, row, n, d_state, in_n, part_sl, ADD: tl.constexpr):
    """Load what the blocks of channels before have added to a token's gradients of B and C."""
    at, mask = to_BC + row * part_sl + n, in_n & (row >= 0) & ADD
    return tl.load(at, mask=mask, other=0), tl.load(at + d_state, mask=mask, other=0)


@triton.jit
def _store_token(
    step, row, d_u, d_delta, d_B, d_C, sum_B, sum_C, to_u, to_delta, to_BC, c, d, n, d_state, in_d, in_n,
    du_sl, part_sl, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Store the gradients of a token; that of its step sizes goes to the buffer."""
    here = row >= 0
    tl.store(to_u + row * du_sl + d, d_u.to(to_u.dtype.element_ty), mask=in_d & here)
    tl.store(to_delta + step * BLOCK_D + c, d_delta)
    tl.store(to_BC + row * part_sl + n, sum_B + d_B, mask=in_n & here)
    tl.store(to_BC + row * part_sl + d_state + n, sum_C + d_C, mask=in_n & here)


@triton.jit
def _forward_step(state, u, g, delta, B, rate):
    """Give the decay over a token, the state after it, both (D, N), and the gradient of the token's C."""
    decayed = decay(delta[:, None], rate)
    state = decayed * state + (delta * u)[:, None] * B[None, :]
    return decayed, state, tl.sum(state * g[:, None], axis=0)


@triton.jit
def _note_states(
    state, notes, deltas, order, u, B, start, end, num_tokens, c, d, n, in_d, in_n, u_sl, u_sd, B_sl, B_sn, rate,
    SPATIAL: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr, dtype: tl.constexpr,
):  # fmt: skip
    """Walk forwards over a chunk from the state that enters it, and note the state before every ``QUAD`` tokens."""
    _, row = step_at(order, start, end, num_tokens, SPATIAL)
    next_u = tl.load(u + row * u_sl + d * u_sd, mask=in_d & (row >= 0), other=0)
    next_B = tl.load(B + row * B_sl + n * B_sn, mask=in_n & (row >= 0), other=0)
    at_note = c[:, None] * BLOCK_N + n[None, :]
    tl.store(notes + at_note, state)
    for quad in range(1, tl.cdiv(end - start, QUAD)):
        for step in tl.static_range(QUAD):
            passed = (quad - 1) * QUAD + step
            u_t, B_t = next_u.to(dtype), next_B.to(dtype)
            delta = tl.load(deltas + passed * BLOCK_D + c)
            _, row = step_at(order, start + passed + 1, end, num_tokens, SPATIAL)
            next_u = tl.load(u + row * u_sl + d * u_sd, mask=in_d & (row >= 0), other=0)
            next_B = tl.load(B + row * B_sl + n * B_sn, mask=in_n & (row >= 0), other=0)
            state = decay(delta[:, None], rate) * state + (delta * u_t)[:, None] * B_t[None, :]
        tl.store(notes + quad * BLOCK_D * BLOCK_N + at_note, state)


@triton.jit
def _project_gradients(
    deltas, d_dt, d_sums, dt, dt_weight, order, work, start, end, first, num_tokens, rows, length, directions, segments,
    blocks, batch, group, c, dim, d_state, rank, dt_sb, dt_sl, dt_sk, dt_sd,
    SPATIAL: tl.constexpr, ADD: tl.constexpr, CHUNK: tl.constexpr, TILE: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """Take a chunk's gradients of the step sizes through softplus and, of low rank, through their projection.

    Those of dt_bias and dt_weight are added to what is at their places in ``d_sums``, except by the ``first`` chunk.
    """
    dtype = deltas.dtype.element_ty
    hide = hidden_zero(end)
    block, segment, k, b, d = locate(work, directions, segments, blocks, c, hide, BLOCK_D)
    t, c, d_deltas = tl.arange(0, TILE) + hide, c + hide, deltas + CHUNK * BLOCK_D
    dt, dt_weight, order = dt + b * dt_sb + k * dt_sk, dt_weight + k * dim * rank, order + k * length
    to_sums = d_sums + (((b * segments + segment) * directions + k) * dim + d) * (d_state + 2 + rank) + d_state
    to_dt, width = d_dt + (b * rows * directions + k) * dim, dim
    d_bias = tl.load(to_sums + 1, mask=(d < dim) & (not first), other=0)
    if BLOCK_R > 0:
        to_dt, width = d_dt + ((block // group * batch + b) * rows * directions + k) * rank, rank
        r = tl.arange(0, BLOCK_R) + hide
        to_weight, in_weight = to_sums[:, None] + 2 + r[None, :], (d < dim)[:, None] & (r < rank)[None, :]
        d_weight = tl.load(to_weight, mask=in_weight & (not first), other=0)
    for tile in range(start, end, TILE):
        position = tile + t
        _, row = step_at(order, position, end, num_tokens, SPATIAL)
        at = (position - start)[:, None] * BLOCK_D + c[None, :]
        # Steps past the end have a step size of 0 that is no softplus; channels past the last one may have NaN.
        in_use = (position < end)[:, None] & (d < dim)[None, :]
        slope = tl.where(in_use, softplus_slope(tl.load(deltas + at)), 0)
        d_raw = tl.load(d_deltas + at, mask=in_use, other=0) * slope
        d_bias += tl.sum(d_raw, axis=0)
        if BLOCK_R > 0:
            low = load_dt(dt, order, position, end, num_tokens, d, dim, rank, dt_sl, dt_sd, SPATIAL, BLOCK_R)
            weight = load_dt_weight(dt_weight, d, dim, rank, low.dtype, BLOCK_R)
            d_raw = d_raw.to(low.dtype)
            d_low = dot(d_raw, weight, dtype)
            mask = (row >= 0)[:, None] & (r < rank)[None, :]
            at_low = to_dt + row[:, None] * (directions * width) + r[None, :]
            if ADD:
                d_low += tl.load(at_low, mask=mask, other=0)
            tl.store(at_low, d_low, mask=mask)
            d_weight += dot(tl.trans(d_raw), low, dtype)
        else:
            mask = (row >= 0)[:, None] & (d < dim)[None, :]
            tl.store(
                to_dt + row[:, None] * (directions * width) + d[None, :], d_raw.to(to_dt.dtype.element_ty), mask=mask
            )
    if BLOCK_R > 0:
        tl.store(to_weight, d_weight, mask=in_weight)
    tl.store(to_sums + 1, d_bias, mask=d < dim)


@triton.jit
def gradient_kernel(
    grad, u, dt, A, B, C, D, dt_bias, dt_weight, order, states, own_grads, dt_sums,
    d_u, d_dt, d_BC, d_sums, buffer,
    works, num_tokens, rows, length, segment_length, dim, d_state, rank, directions, segments, blocks, batch, group,
    g_sb, g_sk, g_sl, g_sd, u_sb, u_sl, u_sk, u_sd, dt_sb, dt_sl, dt_sk, dt_sd,
    B_sb, B_sl, B_sk, B_sn, C_sb, C_sl, C_sk, C_sn, du_sb, du_sl, du_sk,
    SPATIAL: tl.constexpr, LOG_A: tl.constexpr, WHOLE: tl.constexpr, ADD: tl.constexpr, CHUNK: tl.constexpr,
    TILE: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """Compute all gradients.

    ``d_u`` is per direction. ``d_BC`` (groups, Bt, rows, K, 2, N) and, of low rank, ``d_dt`` (groups, Bt, rows, K, R)
    are per group of ``group`` blocks of channels, and zeros before. Without projection d_dt is (Bt, rows, K, D).
    ``d_sums`` (Bt, segments, K, D, N + 2 + R) holds the gradients of A, D, dt_bias and dt_weight.
    """
    dtype = A.dtype.element_ty
    n, c = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_D)
    in_n = (n < d_state) | WHOLE
    deltas = buffer + tl.program_id(0).to(tl.int64) * (CHUNK // QUAD * BLOCK_D * BLOCK_N + 2 * CHUNK * BLOCK_D)
    notes = deltas + 2 * CHUNK * BLOCK_D
    num_chunks = tl.cdiv(length, CHUNK)
    # A program takes the blocks of a group in turn, and adds their gradients of B, C and low-rank dt up.
    program, programs = tl.program_id(0), tl.num_programs(0)
    for turn in range(tl.cdiv(works // group - program, programs) * group):
        work = (program + turn // group * programs) * group + turn % group
        block, segment, k, b, d = locate(work, directions, segments, blocks, c, 0, BLOCK_D)
        in_d = (d < dim) | WHOLE
        in_state = in_d[:, None] & in_n[None, :]
        at_state = d[:, None] * d_state + n[None, :]
        scan = b * directions + k
        rate = decay_rate(tl.load(A + k * dim * d_state + at_state, mask=in_state, other=-1), LOG_A)
        skip = tl.load(D + k * dim + d, mask=in_d, other=0)
        at_u, at_g = u + b * u_sb + k * u_sk, grad + b * g_sb + k * g_sk
        at_B, at_C, at_order = B + b * B_sb + k * B_sk, C + b * C_sb + k * C_sk, order + k * length
        to_u = d_u + b * du_sb + k * du_sk
        to_BC, part_sl = (
            d_BC + ((block // group * batch + b) * rows * directions + k) * 2 * d_state,
            directions * 2 * d_state,
        )

        d_h = _entering_gradient(
            rate, own_grads, dt_sums, scan * segments, segment, segments, dim, d_state, d, n, in_state
        )
        d_A = tl.zeros((BLOCK_D, BLOCK_N), dtype=dtype)
        d_D = tl.zeros((BLOCK_D,), dtype=dtype)
        first = segment * segment_length // CHUNK
        last = tl.minimum(first + segment_length // CHUNK, num_chunks)
        for back in range(last - first):
            chunk = last - 1 - back
            start = chunk * CHUNK
            end = tl.minimum(start + CHUNK, length)
            tl.debug_barrier()
            _note_step_sizes(
                deltas, dt, dt_weight, dt_bias, order, work, start, end, num_tokens, length, directions, segments,
                blocks, c, dim, rank, dt_sb, dt_sl, dt_sk, dt_sd, SPATIAL, TILE, BLOCK_D, BLOCK_R,
            )  # fmt: skip
            tl.debug_barrier()
            kept = states + (scan * (num_chunks - 1) + chunk - 1) * d_state * dim
            entering = tl.load(kept + at_state, mask=in_state & (chunk > 0), other=0)
            _note_states(
                entering, notes, deltas, at_order, at_u, at_B, start, end, num_tokens, c, d, n, in_d, in_n,
                u_sl, u_sd, B_sl, B_sn, rate, SPATIAL, BLOCK_D, BLOCK_N, dtype,
            )  # fmt: skip
            tl.debug_barrier()
            quads = tl.cdiv(end - start, QUAD)
            for back_quad in range(quads):
                quad = quads - 1 - back_quad
                step = quad * QUAD
                row_0, u_0, g_0, delta_0, B_0, C_0 = _load_token(
                    start, step, end, at_order, at_u, at_g, at_B, at_C, deltas, num_tokens, c, d, n, in_d, in_n,
                    u_sl, u_sd, g_sl, g_sd, B_sl, B_sn, C_sl, C_sn, SPATIAL, BLOCK_D, dtype,
                )  # fmt: skip
                row_1, u_1, g_1, delta_1, B_1, C_1 = _load_token(
                    start, step + 1, end, at_order, at_u, at_g, at_B, at_C, deltas, num_tokens, c, d, n, in_d, in_n,
                    u_sl, u_sd, g_sl, g_sd, B_sl, B_sn, C_sl, C_sn, SPATIAL, BLOCK_D, dtype,
                )  # fmt: skip
                row_2, u_2, g_2, delta_2, B_2, C_2 = _load_token(
                    start, step + 2, end, at_order, at_u, at_g, at_B, at_C, deltas, num_tokens, c, d, n, in_d, in_n,
                    u_sl, u_sd, g_sl, g_sd, B_sl, B_sn, C_sl, C_sn, SPATIAL, BLOCK_D, dtype,
                )  # fmt: skip
                row_3, u_3, g_3, delta_3, B_3, C_3 = _load_token(
                    start, step + 3, end, at_order, at_u, at_g, at_B, at_C, deltas, num_tokens, c, d, n, in_d, in_n,
                    u_sl, u_sd, g_sl, g_sd, B_sl, B_sn, C_sl, C_sn, SPATIAL, BLOCK_D, dtype,
                )  # fmt: skip
                state_0 = tl.load(notes + quad * BLOCK_D * BLOCK_N + c[:, None] * BLOCK_N + n[None, :])
                decay_0, state_1, d_C_0 = _forward_step(state_0, u_0, g_0, delta_0, B_0, rate)
                decay_1, state_2, d_C_1 = _forward_step(state_1, u_1, g_1, delta_1, B_1, rate)
                decay_2, state_3, d_C_2 = _forward_step(state_2, u_2, g_2, delta_2, B_2, rate)
                decay_3, _, d_C_3 = _forward_step(state_3, u_3, g_3, delta_3, B_3, rate)
                # Each token is loaded once more, from the cache, before the one behind it is done with. That leaves
                # registers for states and decays; the barrier keeps the compiler from using the first loads.
                tl.debug_barrier()
                row_3, u_3, g_3, delta_3, B_3, C_3 = _load_token(
                    start, step + 3, end, at_order, at_u, at_g, at_B, at_C, deltas, num_tokens, c, d, n, in_d, in_n,
                    u_sl, u_sd, g_sl, g_sd, B_sl, B_sn, C_sl, C_sn, SPATIAL, BLOCK_D, dtype,
                )  # fmt: skip
                row_2, u_2, g_2, delta_2, B_2, C_2 = _load_token(
                    start, step + 2, end, at_order, at_u, at_g, at_B, at_C, deltas, num_tokens, c, d, n, in_d, in_n,
                    u_sl, u_sd, g_sl, g_sd, B_sl, B_sn, C_sl, C_sn, SPATIAL, BLOCK_D, dtype,
                )  # fmt: skip
                sum_B, sum_C = _load_sums(to_BC, row_3, n, d_state, in_n, part_sl, ADD)
                d_h, d_A, d_D, d_u_t, d_delta, d_B_t = _backward_step(
                    d_h, d_A, d_D, u_3, g_3, delta_3, B_3, C_3, skip, rate, decay_3, state_3
                )
                _store_token(
                    step + 3, row_3, d_u_t, d_delta, d_B_t, d_C_3, sum_B, sum_C, to_u, deltas + CHUNK * BLOCK_D, to_BC,
                    c, d, n, d_state, in_d, in_n, du_sl, part_sl, BLOCK_D,
                )  # fmt: skip
                row_1, u_1, g_1, delta_1, B_1, C_1 = _load_token(
                    start, step + 1, end, at_order, at_u, at_g, at_B, at_C, deltas, num_tokens, c, d, n, in_d, in_n,
                    u_sl, u_sd, g_sl, g_sd, B_sl, B_sn, C_sl, C_sn, SPATIAL, BLOCK_D, dtype,
                )  # fmt: skip
                sum_B, sum_C = _load_sums(to_BC, row_2, n, d_state, in_n, part_sl, ADD)
                d_h, d_A, d_D, d_u_t, d_delta, d_B_t = _backward_step(
                    d_h, d_A, d_D, u_2, g_2, delta_2, B_2, C_2, skip, rate, decay_2, state_2
                )
                _store_token(
                    step + 2, row_2, d_u_t, d_delta, d_B_t, d_C_2, sum_B, sum_C, to_u, deltas + CHUNK * BLOCK_D, to_BC,
                    c, d, n, d_state, in_d, in_n, du_sl, part_sl, BLOCK_D,
                )  # fmt: skip
                row_0, u_0, g_0, delta_0, B_0, C_0 = _load_token(
                    start, step, end, at_order, at_u, at_g, at_B, at_C, deltas, num_tokens, c, d, n, in_d, in_n,
                    u_sl, u_sd, g_sl, g_sd, B_sl, B_sn, C_sl, C_sn, SPATIAL, BLOCK_D, dtype,
                )  # fmt: skip
                sum_B, sum_C = _load_sums(to_BC, row_1, n, d_state, in_n, part_sl, ADD)
                d_h, d_A, d_D, d_u_t, d_delta, d_B_t = _backward_step(
                    d_h, d_A, d_D, u_1, g_1, delta_1, B_1, C_1, skip, rate, decay_1, state_1
                )
                _store_token(
                    step + 1, row_1, d_u_t, d_delta, d_B_t, d_C_1, sum_B, sum_C, to_u, deltas + CHUNK * BLOCK_D, to_BC,
                    c, d, n, d_state, in_d, in_n, du_sl, part_sl, BLOCK_D,
                )  # fmt: skip
                sum_B, sum_C = _load_sums(to_BC, row_0, n, d_state, in_n, part_sl, ADD)
                d_h, d_A, d_D, d_u_t, d_delta, d_B_t = _backward_step(
                    d_h, d_A, d_D, u_0, g_0, delta_0, B_0, C_0, skip, rate, decay_0, state_0
                )
                _store_token(
                    step, row_0, d_u_t, d_delta, d_B_t, d_C_0, sum_B, sum_C, to_u, deltas + CHUNK * BLOCK_D, to_BC,
                    c, d, n, d_state, in_d, in_n, du_sl, part_sl, BLOCK_D,
                )  # fmt: skip
            tl.debug_barrier()
            _project_gradients(
                deltas, d_dt, d_sums, dt, dt_weight, order, work, start, end, back == 0, num_tokens, rows, length,
                directions, segments, blocks, batch, group, c, dim, d_state, rank, dt_sb, dt_sl, dt_sk, dt_sd,
                SPATIAL, ADD, CHUNK, TILE, BLOCK_D, BLOCK_R,
            )  # fmt: skip
        if LOG_A:
            # A = -exp(log_A), so its gradient is multiplied by A, which is the rate but for the factor in it.
            d_A *= rate
            if dtype == tl.float32:
                d_A *= LN_2
        _, segment, k, b, d = locate(work, directions, segments, blocks, c, hidden_zero(last), BLOCK_D)
        to_sums = d_sums + (((b * segments + segment) * directions + k) * dim + d) * (d_state + 2 + rank)
        tl.store(to_sums[:, None] + n[None, :], d_A, mask=in_state)
        tl.store(to_sums + d_state, d_D, mask=in_d)
