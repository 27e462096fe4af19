"""The naive scan: a loop over tokens that anyone can check, and the truth for every test."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..tokens import gather_tokens, scatter_tokens


def why_not(device_type: str) -> str | None:
    """Say why this back end cannot run on a kind of device; None if it can."""
    return None


def states_shape(u: Tensor, A: Tensor, order: Tensor) -> tuple[int, ...]:
    """Give the shape of the states kept for the backward: none, it starts again from the inputs."""
    return (0,)


def selective_scan_naive(
    u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, dt_bias: Tensor, order: Tensor, num_tokens: int
) -> Tensor:
    """Scan token by token; arguments as in :func:`mmlocalmamba.ops.local_selective_scan`, differentiable by autograd.

    The recurrence is the paper's equation 3 with the discretisation that Mamba uses (A by zero-order hold, B by Euler).
    """
    if u.dim() == 3:
        u, dt, B, C = (gather_tokens(x, order) for x in (u, dt, B, C))
    dtype, compute = u.dtype, torch.promote_types(u.dtype, torch.float32)
    u, dt, A, B, C, D, dt_bias = (x.to(compute) for x in (u, dt, A, B, C, D, dt_bias))
    dt = F.softplus(dt + dt_bias)
    state = u.new_zeros(u.shape[0], *A.shape)  # (Bt, K, D, N)
    outputs = []
    for step in range(u.shape[1]):
        decay = torch.exp(dt[:, step].unsqueeze(-1) * A)
        state = decay * state + (dt[:, step] * u[:, step]).unsqueeze(-1) * B[:, step].unsqueeze(2)
        outputs.append((state * C[:, step].unsqueeze(2)).sum(-1) + D * u[:, step])
    return scatter_tokens(torch.stack(outputs, 1), order, num_tokens).to(dtype)


def forward(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    dt_bias: Tensor,
    order: Tensor,
    num_tokens: int,
    keep_states: bool,
) -> tuple[Tensor, Tensor]:
    """Scan; returns y and the (empty) states."""
    return selective_scan_naive(u, dt, A, B, C, D, dt_bias, order, num_tokens), A.new_empty(0)


def backward(
    grad_y: Tensor,
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    dt_bias: Tensor,
    order: Tensor,
    states: Tensor,
    num_tokens: int,
) -> tuple[Tensor, ...]:
    """Run the recurrence backwards over all states; returns the gradients of the seven tensors in their own layout."""
    spatial = u.dim() == 3
    inputs = (u, dt, A, B, C, D, dt_bias)
    compute = torch.promote_types(u.dtype, torch.float32)
    if spatial:
        u, dt, B, C = (gather_tokens(x, order) for x in (u, dt, B, C))
    u, dt, A, B, C, D, dt_bias = (x.to(compute) for x in (u, dt, A, B, C, D, dt_bias))
    grad = _gather_grad(grad_y.to(compute), order)  # (Bt, L_scan, K, D)
    raw_dt, dt = dt + dt_bias, F.softplus(dt + dt_bias)

    history = [u.new_zeros(u.shape[0], *A.shape)]
    for step in range(u.shape[1]):
        decay = torch.exp(dt[:, step].unsqueeze(-1) * A)
        history.append(decay * history[-1] + (dt[:, step] * u[:, step]).unsqueeze(-1) * B[:, step].unsqueeze(2))

    d_u, d_dt, d_A = D * grad, torch.zeros_like(dt), torch.zeros_like(A)
    d_B, d_C, d_state = torch.zeros_like(B), torch.zeros_like(C), torch.zeros_like(history[0])
    for step in reversed(range(u.shape[1])):
        decay = torch.exp(dt[:, step].unsqueeze(-1) * A)
        d_state = d_state + grad[:, step].unsqueeze(-1) * C[:, step].unsqueeze(2)
        d_C[:, step] = (grad[:, step].unsqueeze(-1) * history[step + 1]).sum(2)
        d_B[:, step] = (d_state * (dt[:, step] * u[:, step]).unsqueeze(-1)).sum(2)
        d_input = (d_state * B[:, step].unsqueeze(2)).sum(-1)
        d_exponent = d_state * history[step] * decay
        d_u[:, step] += d_input * dt[:, step]
        d_dt[:, step] = d_input * u[:, step] + (d_exponent * A).sum(-1)
        d_A += (d_exponent * dt[:, step].unsqueeze(-1)).sum(0)
        d_state = d_state * decay
    d_dt = d_dt * torch.sigmoid(raw_dt)
    d_D, d_dt_bias = (grad * u).sum((0, 1)), d_dt.sum((0, 1))

    if spatial:
        num = num_tokens
        d_u = scatter_tokens(d_u, order, num).sum(1)
        d_dt, d_B, d_C = (scatter_tokens(x, order, num).transpose(1, 2) for x in (d_dt, d_B, d_C))
    grads = (d_u, d_dt, d_A, d_B, d_C, d_D, d_dt_bias)
    return tuple(grad.to(x.dtype).contiguous() for grad, x in zip(grads, inputs, strict=True))


def _gather_grad(grad_y: Tensor, order: Tensor) -> Tensor:
    """Bring the output's gradient (Bt, K, L, D) into scan order, zero where there was padding."""
    return gather_tokens(grad_y.transpose(1, 2), order)
