"""The library's side of :func:`mmlocalmamba.ops.merge_and_normalise`."""

from __future__ import annotations

from torch import Tensor

from ...channel_gate import ChannelGate, empty_outputs, gate_gradients
from ...tokens import empty_like
from .library import library


def forward(y: Tensor, z: Tensor, eps: float, out_eps: float, **weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the outputs; arguments as in the operation's schema."""
    out, mean, gates = empty_outputs(y)
    library().merge_and_normalise_forward(
        y=y, z=z, **weights, eps=eps, out_eps=out_eps, out=out, mean=mean, gates=gates
    )
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
    kernels = library()
    grad_sum, grad_z, grad_gates = empty_like(z, y.dtype), empty_like(z), empty_like(gates)
    grad_weight, grad_bias = empty_like(out_norm_weight), empty_like(out_norm_bias)
    kernels.merge_and_normalise_grad_gates(
        grad_out=grad_out,
        y=y,
        z=z,
        gates=gates,
        out_norm_weight=out_norm_weight,
        out_norm_bias=out_norm_bias,
        out_eps=out_eps,
        grad_sum=grad_sum,
        grad_z=grad_z,
        grad_gates=grad_gates,
        grad_out_norm_weight=grad_weight,
        grad_out_norm_bias=grad_bias,
    )
    grads = gate_gradients(ChannelGate(**weights, eps=eps), mean, gates, grad_gates, y.shape[2])
    grad_y = empty_like(y)
    kernels.merge_and_normalise_backward(
        grad_sum=grad_sum, y=y, gates=gates, grad_mean=grads.mean, eps=eps, grad_y=grad_y
    )
    return [grad_y, grad_z, *grads.weights, grad_weight, grad_bias]
