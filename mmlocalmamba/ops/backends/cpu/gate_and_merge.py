"""The library's side of :func:`mmlocalmamba.ops.gate_and_merge`."""

from __future__ import annotations

from torch import Tensor

from ...channel_gate import ChannelGate, empty_outputs, gate_gradients
from ...tokens import empty_like
from .library import library


def forward(y: Tensor, z: Tensor, eps: float, **weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the outputs; arguments as in the operation's schema."""
    out, mean, gates = empty_outputs(y)
    library().gate_and_merge_forward(y=y, z=z, **weights, eps=eps, out=out, mean=mean, gates=gates)
    return out, mean, gates


def backward(
    grad_out: Tensor, y: Tensor, z: Tensor, mean: Tensor, gates: Tensor, eps: float, **weights: Tensor
) -> list[Tensor]:
    """Compute the gradients, in the order of the operation's arguments."""
    kernels = library()
    grad_gates = empty_like(gates)
    kernels.gate_and_merge_grad_gates(grad_out=grad_out, y=y, z=z, grad_gates=grad_gates)
    grads = gate_gradients(ChannelGate(**weights, eps=eps), mean, gates, grad_gates, y.shape[2])
    grad_y, grad_z = empty_like(y), empty_like(z)
    kernels.gate_and_merge_backward(
        grad_out=grad_out,
        y=y,
        z=z,
        gates=gates,
        grad_mean=grads.mean,
        eps=eps,
        grad_y=grad_y,
        grad_z=grad_z,
    )
    return [grad_y, grad_z, *grads.weights]
