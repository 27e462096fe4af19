"""The scan's forward kernel: tokens are read and outputs written at the places that the orders name.

The N numbers of a channel's state are spread over a few lanes, and the channels of a program over the others. Each lane
then needs only a few numbers of B and C, and a sum over states is a few exchanges between lanes.
The step sizes of a tile of tokens are computed at once, as one small matrix product where they have low rank, and reach
the lanes through a buffer of the program's own, which stays in the cache. While a tile is walked over, the next one's
step sizes are on their way, and while a token is computed, the next one's features are.
"""

# mypy: ignore-errors
# ruff: noqa: SIM102

import triton
import triton.language as tl

from .scan_steps import decay, decay_rate, hidden_zero, load_tile, locate, step_at, store_tile


@triton.jit
def forward_kernel(
    u, dt, A, B, C, D, dt_bias, dt_weight, order, own_states, dt_sums, states, y, buffer,
    works, num_tokens, length, segment_length, dim, d_state, rank, directions, segments, blocks,
    u_sb, u_sl, u_sk, u_sd, dt_sb, dt_sl, dt_sk, dt_sd, B_sb, B_sl, B_sk, B_sn, C_sb, C_sl, C_sk, C_sn,
    SPATIAL: tl.constexpr, LOG_A: tl.constexpr, WHOLE: tl.constexpr, LOCAL: tl.constexpr, KEEP: tl.constexpr,
    CHUNK: tl.constexpr, TILE: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """Walk over segments.

    With ``LOCAL``, every segment starts from zero; its last state goes to ``own_states`` (Bt, K, segments, D, N) and
    the sum of its step sizes to ``dt_sums`` (Bt, K, segments, D). Otherwise it starts from what the segments before it
    have left there, and writes y (Bt, K, L, D) and, with ``KEEP``, the state that enters each chunk of ``CHUNK`` steps
    but the first: ``states`` (Bt, K, chunks - 1, D, N).
    """
    dtype = A.dtype.element_ty
    n, c = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_D)
    in_n = (n < d_state) | WHOLE
    at_buffer = buffer + tl.program_id(0).to(tl.int64) * TILE * BLOCK_D
    for work in range(tl.program_id(0), works, tl.num_programs(0)):
        _, segment, k, b, d = locate(work, directions, segments, blocks, c, 0, BLOCK_D)
        scan = b * directions + k
        in_d = (d < dim) | WHOLE
        in_state = in_d[:, None] & in_n[None, :]
        at_state = d[:, None] * d_state + n[None, :]
        rate = decay_rate(tl.load(A + k * dim * d_state + at_state, mask=in_state, other=-1), LOG_A)
        state = tl.zeros((BLOCK_D, BLOCK_N), dtype=dtype)
        own = scan * segments
        if LOCAL:
            dt_sum = tl.zeros((BLOCK_D,), dtype=dtype)
        else:
            skip = tl.load(D + k * dim + d, mask=in_d, other=0)
            for before in range(segment):
                delta = tl.load(dt_sums + (own + before) * dim + d, mask=in_d, other=0)
                added = tl.load(own_states + (own + before) * d_state * dim + at_state, mask=in_state, other=0)
                state = decay(delta[:, None], rate) * state + added

        at_u, at_order = u + b * u_sb + k * u_sk, order + k * length
        at_B, at_C = B + b * B_sb + k * B_sk, C + b * C_sb + k * C_sk
        first = segment * segment_length
        last = tl.minimum(first + segment_length, length)
        low = load_tile(
            dt, order, work, first, last, num_tokens, length, directions, segments, blocks, dim, rank,
            dt_sb, dt_sl, dt_sk, dt_sd, c, hidden_zero(first), SPATIAL, TILE, BLOCK_D, BLOCK_R,
        )  # fmt: skip
        next_token, next_row = step_at(at_order, first, last, num_tokens, SPATIAL)
        next_u = tl.load(at_u + next_row * u_sl + d * u_sd, mask=in_d & (next_row >= 0), other=0)
        next_B = tl.load(at_B + next_row * B_sl + n * B_sn, mask=in_n & (next_row >= 0), other=0)
        next_C = next_B
        if not LOCAL:
            next_C = tl.load(at_C + next_row * C_sl + n * C_sn, mask=in_n & (next_row >= 0), other=0)
        for start in range(first, last, TILE):
            hide = hidden_zero(start)
            tl.debug_barrier()
            store_tile(
                at_buffer, low, dt_weight, dt_bias, work, start, last, directions, segments, blocks, dim, rank, c, hide,
                TILE, BLOCK_D, BLOCK_R,
            )  # fmt: skip
            tl.debug_barrier()
            low = load_tile(
                dt, order, work, start + TILE, last, num_tokens, length, directions, segments, blocks, dim, rank,
                dt_sb, dt_sl, dt_sk, dt_sd, c, hide, SPATIAL, TILE, BLOCK_D, BLOCK_R,
            )  # fmt: skip
            if KEEP:
                if (start % CHUNK == 0) & (start > 0):
                    kept = scan * (tl.cdiv(length, CHUNK) - 1) + start // CHUNK - 1
                    tl.store(states + kept * d_state * dim + at_state, state, mask=in_state)
            next_delta = tl.load(at_buffer + c)
            for position in range(start, tl.minimum(start + TILE, last)):
                token, u_t, B_t, C_t, delta = next_token, next_u, next_B, next_C, next_delta
                next_token, next_row = step_at(at_order, position + 1, last, num_tokens, SPATIAL)
                next_u = tl.load(at_u + next_row * u_sl + d * u_sd, mask=in_d & (next_row >= 0), other=0)
                next_B = tl.load(at_B + next_row * B_sl + n * B_sn, mask=in_n & (next_row >= 0), other=0)
                next_delta = tl.load(at_buffer + tl.minimum(position + 1 - start, TILE - 1) * BLOCK_D + c)
                u_t = u_t.to(dtype)
                value = (delta * u_t)[:, None] * B_t.to(dtype)[None, :]
                state = decay(delta[:, None], rate) * state + value
                if LOCAL:
                    dt_sum += delta
                else:
                    next_C = tl.load(at_C + next_row * C_sl + n * C_sn, mask=in_n & (next_row >= 0), other=0)
                    out = tl.sum(state * C_t.to(dtype)[None, :], axis=1) + skip * u_t
                    at_y = y + (scan * num_tokens + token) * dim + d
                    tl.store(at_y, out.to(y.dtype.element_ty), mask=in_d & (token >= 0))
        if LOCAL:
            _, segment, k, b, d = locate(work, directions, segments, blocks, c, hidden_zero(last), BLOCK_D)
            own = (b * directions + k) * segments + segment
            at_state = d[:, None] * d_state + n[None, :]
            tl.store(own_states + own * d_state * dim + at_state, state, mask=in_state)
            tl.store(dt_sums + own * dim + d, dt_sum, mask=in_d)
