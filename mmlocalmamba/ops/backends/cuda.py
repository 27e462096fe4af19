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

from ..scan_inputs import ScanGrads, ScanInputs
from ..tokens import gather_tokens, scatter_tokens

KERNEL_CHUNK = 2048
"""Tokens after which the kernel keeps a state."""

TAKES_FACTORS = False

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


def states_shape(inputs: ScanInputs) -> tuple[int, ...]:
    """Give the shape of the states that the kernel keeps for its backward."""
    directions, channels, d_state = inputs.A.shape
    return (inputs.u.shape[0], directions * channels, -(-inputs.order.shape[1] // KERNEL_CHUNK), 2 * d_state)


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


def _arguments(inputs: ScanInputs) -> _Arguments:
    if inputs.u.dtype == torch.float64:
        raise ValueError("mamba-ssm's kernel has no float64: use backend='chunked'")
    tokens = [inputs.u, inputs.dt, inputs.B, inputs.C]
    if inputs.is_spatial:
        tokens = [gather_tokens(x, inputs.order) for x in tokens]
    u, dt, B, C = (x.permute(0, 2, 3, 1).contiguous() for x in tokens)  # (Bt, K, features, L_scan)
    A, D, dt_bias = inputs.A.flatten(0, 1), inputs.D.flatten(), inputs.dt_bias.flatten()
    return _Arguments(u.flatten(1, 2), dt.flatten(1, 2), A, B, C, D, None, dt_bias)


def forward(inputs: ScanInputs, keep_states: bool) -> tuple[Tensor, Tensor]:
    """Scan; returns y and, if asked to keep them, the kernel's states."""
    u, A, order = inputs.u, inputs.A, inputs.order
    arguments = _arguments(inputs)
    if arguments.u.numel() == 0:
        states = A.new_zeros(states_shape(inputs))
        y = u.new_zeros(u.shape[0], order.shape[0], inputs.map_tokens, u.shape[-1])
    else:
        out, states, *_ = _kernel().fwd(*arguments, True)
        y = scatter_tokens(out.unflatten(1, A.shape[:2]).permute(0, 3, 1, 2), order, inputs.map_tokens)
    return y, states if keep_states else states.new_empty(0)


def backward(grad_y: Tensor, inputs: ScanInputs, states: Tensor) -> ScanGrads:
    """Run the kernel's backward, and bring the gradients into the layouts of their tensors."""
    A, order, num_tokens = inputs.A, inputs.order, inputs.map_tokens
    arguments = _arguments(inputs)
    if arguments.u.numel() == 0:
        return ScanGrads(*(torch.zeros_like(getattr(inputs, name)) for name in ScanGrads._fields[:-1]))
    grad = gather_tokens(grad_y.transpose(1, 2), order).permute(0, 2, 3, 1).contiguous().flatten(1, 2)
    d_u, d_dt, d_A, d_B, d_C, d_D, d_bias, *_ = _kernel().bwd(*arguments, grad, states, None, None, True, False)
    d_u, d_dt = (x.unflatten(1, A.shape[:2]) for x in (d_u, d_dt))
    d_u, d_dt, d_B, d_C = (x.permute(0, 3, 1, 2) for x in (d_u, d_dt, d_B, d_C))  # (Bt, L_scan, K, features)
    if inputs.is_spatial:
        d_u = scatter_tokens(d_u.to(A.dtype), order, num_tokens).sum(1)
        d_dt, d_B, d_C = (scatter_tokens(x, order, num_tokens).transpose(1, 2) for x in (d_dt, d_B, d_C))
    grads = ScanGrads(d_u, d_dt, d_A.view_as(A), d_B, d_C, d_D.view_as(inputs.D), d_bias.view_as(inputs.dt_bias))
    return grads.like(inputs)
