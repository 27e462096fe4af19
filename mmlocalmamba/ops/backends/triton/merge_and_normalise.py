"""The Triton side of :func:`mmlocalmamba.ops.merge_and_normalise`."""

from __future__ import annotations

from torch import Tensor

from ...channel_gate import ChannelGate, empty_outputs, gate_gradients
from ...tokens import unit_stride
from .merges import Scans, compute_gates, grad_scans, merge, sum_grad_gates


def forward(
    y: Tensor,
    z: Tensor,
    out_norm_weight: Tensor,
    out_norm_bias: Tensor,
    eps: float,
    out_eps: float,
    **weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the outputs; arguments as in the operation's schema."""
    out, mean, gates = empty_outputs(y)
    scans = Scans('merge_and_normalise', unit_stride(y), unit_stride(z), z_first=False)
    compute_gates(scans, ChannelGate(**weights, eps=eps), mean, gates)
    merge(scans, gates, (out_norm_weight.contiguous(), out_norm_bias.contiguous()), out_eps, out)
    return out, mean, gates


def backward(
    grad_out: Tensor,
    y: Tensor,
    z: Tensor,
    mean: Tensor,
    gates: Tensor,
    out_norm_weight: Tensor,
    out_norm_bias: Tensor,
    eps: float,
    out_eps: float,
    **weights: Tensor,
) -> list[Tensor]:
    """Compute the gradients, in the order of the operation's arguments."""
    scans = Scans('merge_and_normalise', unit_stride(y), unit_stride(z), z_first=False)
    gates, norm = gates.contiguous(), (out_norm_weight.contiguous(), out_norm_bias.contiguous())
    grad_sum, grad_z = y.new_empty(z.shape), z.new_empty(z.shape)
    partial = sum_grad_gates(scans, unit_stride(grad_out), gates, norm, out_eps, grad_sum, grad_z)
    grad_gates = partial[:, :, :-2].sum(0)
    grad_weight, grad_bias = (partial[:, :, row].sum((0, 1)) for row in (-2, -1))
    grads = gate_gradients(ChannelGate(**weights, eps=eps), mean, gates, grad_gates, scans.tokens)
    grad_y = grad_scans(scans, grad_sum, gates, grads.mean.contiguous(), eps, grad_z)
    grad_norm = [grad_weight.to(out_norm_weight.dtype), grad_bias.to(out_norm_bias.dtype)]
    return [grad_y, grad_z, *grads.weights, *grad_norm]
