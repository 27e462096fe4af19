"""The library's side of :func:`mmlocalmamba.ops.gate_and_merge`."""

from __future__ import annotations

import torch
from torch import Tensor

from ...channel_gate import ChannelGate, empty_outputs, gate_gradients
from ...tokens import unit_stride
from .library import library


def forward(y: Tensor, z: Tensor, eps: float, **weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the outputs; arguments as in the operation's schema."""
    out, mean, gates = empty_outputs(y)
    weights = {name: weight.contiguous() for name, weight in weights.items()}
    tokens = dict(y=unit_stride(y), z=unit_stride(z.to(y.dtype)))
    library().gate_and_merge_forward(**tokens, **weights, eps=eps, out=out, mean=mean, gates=gates)
    return out, mean, gates


def backward(
    grad_out: Tensor, y: Tensor, z: Tensor, mean: Tensor, gates: Tensor, eps: float, **weights: Tensor
) -> list[Tensor]:
    """Compute the gradients, in the order of the operation's arguments."""
    kernels = library()
    own = dict(grad_out=unit_stride(grad_out.to(y.dtype)), y=unit_stride(y), z=unit_stride(z.to(y.dtype)))
    grad_gates = torch.empty_like(gates)
    kernels.gate_and_merge_grad_gates(**own, grad_gates=grad_gates)
    grads = gate_gradients(ChannelGate(**weights, eps=eps), mean, gates, grad_gates, y.shape[2])
    grad_y, grad_z = y.new_empty(y.shape), y.new_empty(z.shape)
    kernels.gate_and_merge_backward(
        **own, gates=gates.contiguous(), grad_mean=grads.mean.contiguous(), eps=eps, grad_y=grad_y, grad_z=grad_z
    )
    return [grad_y, grad_z.to(z.dtype), *grads.weights]
