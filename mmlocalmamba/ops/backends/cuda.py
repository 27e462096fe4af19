"""The scan by mamba-ssm's CUDA kernel, ``selective_scan_cuda``, if that is installed.

The kernel knows nothing of orders and wants the sequence innermost, so tokens are copied into every direction first,
and outputs back: several times the memory traffic of our own kernels. Its interface, with all directions as groups:
``fwd(u, delta, A, B, C, D, z, delta_bias, delta_softplus) -> out, x`` and ``bwd(u, delta, A, B, C, D, z, delta_bias,
dout, x, out, dz, delta_softplus, recompute_out_z) -> du, ddelta, dA, dB, dC, dD, ddelta_bias``, with u and delta
(Bt, K D, L), A (K D, N), B and C (Bt, K, N, L), D and delta_bias (K D,), and x the states after every 2048 tokens.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from ..tokens import gather_tokens, scatter_tokens

KERNEL_CHUNK = 2048
"""Tokens after which the kernel keeps a state."""

_HOW = (
    'install mamba-ssm with its CUDA kernel: `MAMBA_KEEP_CUDA_BUILD=TRUE pip install mamba-ssm --no-build-isolation` '
    '(from 2.3.2 on it is not built without that variable)'
)


@lru_cache(maxsize=1)
def _kernel() -> ModuleType:
    return import_module('selective_scan_cuda')


def why_not(device_type: str) -> str | None:
    """Say why this back end cannot run on a kind of device; None if it can."""
    if device_type != 'cuda':
        return "mamba-ssm's kernel runs on CUDA devices only."
    if not torch.cuda.is_available():
        return 'PyTorch sees no CUDA device: check `nvidia-smi`, and that PyTorch is a CUDA build.'
    try:
        _kernel()
    except ModuleNotFoundError:
        return f'selective_scan_cuda is not installed: {_HOW}.'
    except ImportError as error:
        return f'selective_scan_cuda was built for another PyTorch ({error}): {_HOW}.'
    return None


def states_shape(u: Tensor, A: Tensor, order: Tensor) -> tuple[int, ...]:
    """Give the shape of the states that the kernel keeps for its backward."""
    directions, channels, d_state = A.shape
    return (u.shape[0], directions * channels, -(-order.shape[1] // KERNEL_CHUNK), 2 * d_state)


class _Arguments(NamedTuple):
    """What the kernel takes, in its layouts."""

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor
    z: None
    delta_bias: Tensor


def _arguments(
    u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, dt_bias: Tensor, order: Tensor
) -> _Arguments:
    if u.dtype == torch.float64:
        raise ValueError("mamba-ssm's kernel has no float64: use backend='chunked'")
    if u.dim() == 3:
        u, dt, B, C = (gather_tokens(x, order) for x in (u, dt, B, C))
    u, dt, B, C = (x.permute(0, 2, 3, 1).contiguous() for x in (u, dt, B, C))  # (Bt, K, features, L_scan)
    return _Arguments(u.flatten(1, 2), dt.flatten(1, 2), A.flatten(0, 1), B, C, D.flatten(), None, dt_bias.flatten())


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
    """Scan; returns y and, if asked to keep them, the kernel's states."""
    arguments = _arguments(u, dt, A, B, C, D, dt_bias, order)
    if arguments.u.numel() == 0:
        states = A.new_zeros(states_shape(u, A, order))
        y = u.new_zeros(u.shape[0], order.shape[0], num_tokens, u.shape[-1])
    else:
        out, states, *_ = _kernel().fwd(*arguments, True)
        y = scatter_tokens(out.unflatten(1, A.shape[:2]).permute(0, 3, 1, 2), order, num_tokens)
    return y, states if keep_states else states.new_empty(0)


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
    """Run the kernel's backward; returns the gradients of the seven tensors in their own shapes."""
    inputs = (u, dt, A, B, C, D, dt_bias)
    arguments = _arguments(*inputs, order)
    if arguments.u.numel() == 0:
        return tuple(torch.zeros(x.shape, dtype=x.dtype, device=x.device) for x in inputs)
    grad = gather_tokens(grad_y.transpose(1, 2), order).permute(0, 2, 3, 1).contiguous().flatten(1, 2)
    d_u, d_dt, d_A, d_B, d_C, d_D, d_bias, *_ = _kernel().bwd(*arguments, grad, states, None, None, True, False)
    d_u, d_dt = (x.unflatten(1, A.shape[:2]) for x in (d_u, d_dt))
    d_u, d_dt, d_B, d_C = (x.permute(0, 3, 1, 2) for x in (d_u, d_dt, d_B, d_C))  # (Bt, L_scan, K, features)
    if u.dim() == 3:
        d_u = scatter_tokens(d_u.to(A.dtype), order, num_tokens).sum(1)
        d_dt, d_B, d_C = (scatter_tokens(x, order, num_tokens).transpose(1, 2) for x in (d_dt, d_B, d_C))
    grads = (d_u, d_dt, d_A.view_as(A), d_B, d_C, d_D.view_as(D), d_bias.view_as(dt_bias))
    return tuple(grad.to(x.dtype).contiguous() for grad, x in zip(grads, inputs, strict=True))
