"""The scan in plain PyTorch, a chunk of tokens at a time: for machines with neither a compiler nor Triton.

Everything that does not depend on the previous state (the exponentials, the inputs' and outputs' products with B and C)
is computed for a whole chunk in one call; only one fused multiply-add per token remains in a loop. On an accelerator,
where launching a kernel costs more than running it, the sequence is also cut into segments that are scanned side by
side, first for their final states alone; a short loop then carries the states from segment to segment. No exponential
of a positive number is ever taken, so that nothing overflows. Memory is linear in tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..scan_inputs import ScanGrads, ScanInputs
from ..tokens import check_order

TAKES_FACTORS = False

CHUNK_BYTES = 1 << 21
"""Size that the states of a chunk should have: that of a processor's second-level cache."""

CHUNK_LENGTHS = (8, 32)
"""Fewest and most tokens in a chunk. One state per chunk is kept for the backward."""

SEGMENTS = 32
"""Segments scanned side by side on accelerators."""


def why_not(device_type: str) -> str | None:
    """Say why this back end cannot run on a kind of device: None, for it can run anywhere."""
    return None


class _Layout(NamedTuple):
    """How a sequence is cut: into segments side by side, these into chunks, these into tokens."""

    segments: int
    chunks: int
    chunk: int


def _layout(device_type: str, length: int, state_size: int) -> _Layout:
    """Cut a sequence of ``length`` tokens whose state has ``state_size`` numbers."""
    shortest, longest = CHUNK_LENGTHS
    if device_type != 'cpu':
        segments = max(1, min(SEGMENTS, length // shortest))
        return _Layout(segments, -(-length // (shortest * segments)), shortest)
    chunk = max(shortest, min(longest, CHUNK_BYTES // (4 * max(state_size, 1))))
    return _Layout(1, -(-length // chunk), chunk)


def _layout_of(inputs: ScanInputs) -> _Layout:
    return _layout(inputs.u.device.type, inputs.order.shape[1], inputs.u.shape[0] * inputs.A.numel())


def states_shape(inputs: ScanInputs) -> tuple[int, ...]:
    """Give the shape of the states kept for the backward: the one before each chunk."""
    layout = _layout_of(inputs)
    directions, channels, d_state = inputs.A.shape
    return (layout.chunks, layout.segments, directions, inputs.u.shape[0], d_state, channels)


class _Chunk(NamedTuple):
    """Tokens of one chunk in scan order, T x S segments x K x Bt x features, and what the recurrence needs of them."""

    rows: Tensor  # (T, S, K) positions to read from and to write gradients to; one past the end where there is none
    u: Tensor
    raw_dt: Tensor
    dt: Tensor
    B: Tensor
    C: Tensor
    decay: Tensor  # (T, S, K, Bt, N, D)


class _Scan:
    """One call's inputs, cut into segments and chunks."""

    def __init__(self, inputs: ScanInputs) -> None:
        inputs.check_dense()
        check_order(inputs.order, inputs.map_tokens)
        u, order = inputs.u, inputs.order
        self.spatial, self.compute = inputs.is_spatial, inputs.compute_dtype
        self.batch, self.length = u.shape[0], order.shape[1]
        self.directions, self.channels, self.d_state = inputs.A.shape
        self.segments, self.chunks, self.chunk_length = _layout_of(inputs)
        if self.spatial:
            u = u.unsqueeze(2).expand(-1, -1, self.directions, -1)
        self.tokens = tuple(x.permute(1, 2, 0, 3) for x in (u, inputs.dt, inputs.B, inputs.C))
        self.A = inputs.A.to(self.compute).transpose(1, 2).unsqueeze(1)  # (K, 1, N, D)
        self.D, self.dt_bias = (x.to(self.compute).unsqueeze(1) for x in (inputs.D, inputs.dt_bias))
        self.k = torch.arange(self.directions, device=u.device)
        places = F.pad(order.long(), (0, self.padded_length - self.length), value=-1)
        if self.spatial:
            rows = places
        else:
            steps = torch.arange(self.padded_length, device=u.device)
            rows = torch.where(steps < self.length, steps, -1).expand_as(places)
        self.rows, self.places = (self._cut(x) for x in (rows, places))

    @property
    def padded_length(self) -> int:
        return self.segments * self.chunks * self.chunk_length

    def _cut(self, index: Tensor) -> Tensor:
        """(K, padded length) -> (chunks, T, S, K)."""
        return index.view(self.directions, self.segments, self.chunks, self.chunk_length).permute(2, 3, 1, 0)

    def past_the_end(self, index: int) -> Tensor | None:
        """Tell which steps of a chunk, (T, S), only fill it up; None if there are none."""
        first = torch.arange(self.segments, device=self.k.device) * self.chunks + index
        if ((self.segments - 1) * self.chunks + index + 1) * self.chunk_length <= self.length:
            return None
        steps = first * self.chunk_length + torch.arange(self.chunk_length, device=self.k.device).unsqueeze(1)
        return steps >= self.length

    def take(self, x: Tensor, rows: Tensor) -> Tensor:
        """Gather (L, K, Bt, F) at (T, S, K) rows, zero where the row is -1."""
        if len(x) == 0:
            return self.A.new_zeros(*rows.shape, *x.shape[2:])
        return x[rows.clamp(min=0), self.k].to(self.compute).masked_fill_((rows < 0)[..., None, None], 0)

    def chunk(self, index: int) -> _Chunk:
        rows = self.rows[index]
        u, dt, B, C = (self.take(x, rows) for x in self.tokens)
        raw_dt = dt + self.dt_bias
        dt = F.softplus(raw_dt)
        return _Chunk(rows, u, raw_dt, dt, B, C, torch.mul(dt.unsqueeze(-2), self.A).exp_())

    def states(self, chunk: _Chunk, state: Tensor) -> Tensor:
        """Run the recurrence over a chunk: states (T, S, K, Bt, N, D) after each token."""
        states = chunk.B.unsqueeze(-1) * (chunk.dt * chunk.u).unsqueeze(-2)
        for step, decay in zip(states, chunk.decay, strict=True):
            state = step.addcmul_(decay, state)
        return states

    def grad_states(self, chunk: _Chunk, grad: Tensor, incoming: Tensor) -> Tensor:
        """Run the recurrence backwards: gradients of the states; ``incoming`` is the one past the chunk, decayed."""
        grads = chunk.C.unsqueeze(-1) * grad.unsqueeze(-2)
        grads[-1] += incoming
        for step in reversed(range(self.chunk_length - 1)):
            grads[step].addcmul_(chunk.decay[step + 1], grads[step + 1])
        return grads

    def zero_state(self) -> Tensor:
        shape = (self.segments, self.directions, self.batch, self.d_state, self.channels)
        return self.A.new_zeros(shape)

    def carry(self, local: Tensor, total_dt: Tensor, reverse: bool = False) -> Tensor:
        """Turn each segment's own contribution to the state that leaves it into the state that enters it."""
        decay = torch.exp(total_dt.unsqueeze(-2) * self.A)
        entering = torch.zeros_like(local)
        steps = range(self.segments - 1, 0, -1) if reverse else range(self.segments - 1)
        for step in steps:
            entering[step - 1 if reverse else step + 1] = torch.addcmul(local[step], decay[step], entering[step])
        return entering

    def entering_states(self) -> Tensor:
        """Find the state that enters each segment."""
        state = self.zero_state()
        if self.segments == 1:
            return state
        total_dt = torch.zeros_like(state[..., 0, :])
        for index in range(self.chunks):
            chunk = self.chunk(index)
            state = self.states(chunk, state)[-1].clone()
            total_dt += chunk.dt.sum(0)
        return self.carry(state, total_dt)

    def entering_grads(self, grad_y: Tensor) -> Tensor:
        """Find the gradient that comes to each segment's last state from the next segment."""
        grad = self.zero_state()
        if self.segments == 1:
            return grad
        total_dt = torch.zeros_like(grad[..., 0, :])
        for index in reversed(range(self.chunks)):
            chunk = self.chunk(index)
            grads = self.grad_states(chunk, self.take(grad_y, self.places[index]), grad)
            grad = chunk.decay[0] * grads[0]
            total_dt += chunk.dt.sum(0)
        return self.carry(grad, total_dt, reverse=True)

    def buffer(self, num_tokens: int, features: int) -> Tensor:
        """Make room for features of every token and direction, and for one more that takes what nobody wants."""
        return self.A.new_zeros(num_tokens + 1, self.directions, self.batch, features)

    def put(self, buffer: Tensor, rows: Tensor, value: Tensor) -> None:
        """Scatter (T, S, K, Bt, F) into a buffer; what belongs to no token goes to its last row."""
        buffer[rows.masked_fill(rows < 0, buffer.shape[0] - 1), self.k] = value


def forward(inputs: ScanInputs, keep_states: bool) -> tuple[Tensor, Tensor]:
    """Scan; returns y and, if asked to keep them, the states before each chunk."""
    scan = _Scan(inputs)
    kept = scan.A.new_empty(states_shape(inputs) if keep_states else (0,))
    out = scan.buffer(inputs.map_tokens, scan.channels)
    state = scan.entering_states()
    for index in range(scan.chunks):
        if keep_states:
            kept[index] = state
        chunk = scan.chunk(index)
        states = scan.states(chunk, state)
        y = torch.matmul(chunk.C.unsqueeze(-2), states).squeeze(-2).addcmul_(scan.D, chunk.u)
        scan.put(out, scan.places[index], y)
        state = states[-1].clone()
    return out[:-1].permute(2, 1, 0, 3).to(inputs.u.dtype).contiguous(), kept


def backward(grad_y: Tensor, inputs: ScanInputs, states: Tensor) -> ScanGrads:
    """Compute the states again, and run the recurrence backwards."""
    scan = _Scan(inputs)
    grad_y = grad_y.permute(2, 1, 0, 3)
    rows = inputs.u.shape[1]
    buffers = [scan.buffer(rows, x.shape[-1]) for x in (inputs.u, inputs.dt, inputs.B, inputs.C)]
    d_A, d_D, d_dt_bias = torch.zeros_like(scan.A), torch.zeros_like(scan.D), torch.zeros_like(scan.dt_bias)
    incoming = scan.entering_grads(grad_y)
    for index in reversed(range(scan.chunks)):
        chunk = scan.chunk(index)
        grad = scan.take(grad_y, scan.places[index])
        after = scan.states(chunk, states[index])
        d_C = torch.matmul(after, grad.unsqueeze(-1)).squeeze(-1)
        d_states = scan.grad_states(chunk, grad, incoming)
        incoming = chunk.decay[0] * d_states[0]
        d_B = torch.matmul(d_states, (chunk.dt * chunk.u).unsqueeze(-1)).squeeze(-1)
        d_input = torch.matmul(chunk.B.unsqueeze(-2), d_states).squeeze(-2)
        d_exponent = d_states.mul_(chunk.decay)  # times the state before each token:
        d_exponent[1:] *= after[:-1]
        d_exponent[0] *= states[index]
        filled = scan.past_the_end(index)
        if filled is not None:  # their zeros would not stay zeros if the last state is infinite
            d_exponent.masked_fill_(filled[..., None, None, None, None], 0)
        d_dt = (d_exponent * scan.A).sum(-2).addcmul_(d_input, chunk.u)
        d_A += d_exponent.mul_(chunk.dt.unsqueeze(-2)).sum((0, 1, 3)).unsqueeze(1)
        d_dt *= torch.sigmoid(chunk.raw_dt)
        d_u = torch.addcmul(d_input * chunk.dt, scan.D, grad)
        d_D += (grad * chunk.u).sum((0, 1, 3)).unsqueeze(1)
        d_dt_bias += d_dt.sum((0, 1, 3)).unsqueeze(1)
        for buffer, value in zip(buffers, (d_u, d_dt, d_B, d_C), strict=True):
            scan.put(buffer, chunk.rows, value)
    d_u, d_dt, d_B, d_C = (buffer[:-1].permute(2, 0, 1, 3) for buffer in buffers)
    if scan.spatial:
        d_u = d_u.sum(2)
    d_A, d_D, d_dt_bias = d_A.squeeze(1).transpose(1, 2), d_D.squeeze(1), d_dt_bias.squeeze(1)
    return ScanGrads(d_u, d_dt, d_A, d_B, d_C, d_D, d_dt_bias).like(inputs)
