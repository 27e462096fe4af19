"""The naive scan: a loop over tokens that anyone can check, and the truth for every test."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..scan_inputs import ScanGrads, ScanInputs
from ..tokens import check_order, gather_tokens, scatter_tokens

TAKES_FACTORS = False


def why_not(device_type: str) -> str | None:
    """Say why this back end cannot run on a kind of device: None, for it can run anywhere."""
    return None


def states_shape(inputs: ScanInputs) -> tuple[int, ...]:
    """Give the shape of the states kept for the backward: none, since it starts again from the inputs."""
    return (0,)


def selective_scan_naive(inputs: ScanInputs) -> Tensor:
    """Scan token by token; see :func:`mmlocalmamba.ops.local_selective_scan`. Autograd can differentiate it.

    The recurrence is the paper's equation 3 with the discretisation that Mamba uses (A by zero-order hold, B by Euler).
    It takes neither ``dt_weight`` nor ``log_A``: :func:`mmlocalmamba.ops.selective_scan.multiply_out` computes what
    they stand for.
    """
    u, dt, A, B, C, D, dt_bias = _in_scan_order(inputs)
    dt = F.softplus(dt + dt_bias)
    state = u.new_zeros(u.shape[0], *A.shape)  # (Bt, K, D, N)
    outputs = []
    for step in range(u.shape[1]):
        decay = torch.exp(dt[:, step].unsqueeze(-1) * A)
        state = decay * state + (dt[:, step] * u[:, step]).unsqueeze(-1) * B[:, step].unsqueeze(2)
        outputs.append((state * C[:, step].unsqueeze(2)).sum(-1) + D * u[:, step])
    y = torch.stack(outputs, 1) if outputs else u
    return scatter_tokens(y, inputs.order, inputs.map_tokens).to(inputs.u.dtype)


def _in_scan_order(inputs: ScanInputs) -> list[Tensor]:
    """Give u, dt, A, B, C, D and dt_bias in the compute dtype, tokens as (Bt, L_scan, K, features)."""
    inputs.check_dense()
    check_order(inputs.order, inputs.map_tokens)
    tokens = [inputs.u, inputs.dt, inputs.B, inputs.C]
    if inputs.is_spatial:
        tokens = [gather_tokens(x, inputs.order) for x in tokens]
    u, dt, B, C = tokens
    return [x.to(inputs.compute_dtype) for x in (u, dt, inputs.A, B, C, inputs.D, inputs.dt_bias)]


def forward(inputs: ScanInputs, keep_states: bool) -> tuple[Tensor, Tensor]:
    """Scan; returns y and the (empty) states."""
    return selective_scan_naive(inputs), inputs.A.new_empty(0)


def backward(grad_y: Tensor, inputs: ScanInputs, states: Tensor) -> ScanGrads:
    """Run the recurrence backwards over all states."""
    u, dt, A, B, C, D, dt_bias = _in_scan_order(inputs)
    # The gradient of what was computed for padding is zero: it was dropped.
    grad = gather_tokens(grad_y.to(inputs.compute_dtype).transpose(1, 2), inputs.order)  # (Bt, L_scan, K, D)
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

    if inputs.is_spatial:
        order, num_tokens = inputs.order, inputs.map_tokens
        d_u = scatter_tokens(d_u, order, num_tokens).sum(1)
        d_dt, d_B, d_C = (scatter_tokens(x, order, num_tokens).transpose(1, 2) for x in (d_dt, d_B, d_C))
    return ScanGrads(d_u, d_dt, d_A, d_B, d_C, d_D, d_dt_bias).like(inputs)
