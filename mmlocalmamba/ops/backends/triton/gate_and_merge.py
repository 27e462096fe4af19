"""The Triton side of :func:`mmlocalmamba.ops.gate_and_merge`."""

from __future__ import annotations

from torch import Tensor

from ...channel_gate import ChannelGate, empty_outputs, gate_gradients
from ...tokens import unit_stride
from .merges import Scans, compute_gates, grad_scans, merge, sum_grad_gates


def forward(y: Tensor, z: Tensor, eps: float, **weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the outputs; arguments as in the operation's schema."""
    out, mean, gates = empty_outputs(y)
    scans = Scans('gate_and_merge', unit_stride(y), unit_stride(z), z_first=True)
    compute_gates(scans, ChannelGate(**weights, eps=eps), mean, gates)
    merge(scans, gates, (gates, gates), eps, out)
    return out, mean, gates


def backward(
    grad_out: Tensor, y: Tensor, z: Tensor, mean: Tensor, gates: Tensor, eps: float, **weights: Tensor
) -> list[Tensor]:
    """Compute the gradients, in the order of the operation's arguments."""
    scans = Scans('gate_and_merge', unit_stride(y), unit_stride(z), z_first=True)
    grad_out, gates, grad_z = unit_stride(grad_out), gates.contiguous(), z.new_empty(z.shape)
    partial = sum_grad_gates(scans, grad_out, gates, (gates, gates), eps, grad_z, grad_z)
    grads = gate_gradients(ChannelGate(**weights, eps=eps), mean, gates, partial.sum(0), scans.tokens)
    grad_y = grad_scans(scans, grad_out, gates, grads.mean.contiguous(), eps, grad_z)
    return [grad_y, grad_z, *grads.weights]
