"""The library's side of :func:`mmlocalmamba.ops.local_causal_conv1d`."""

from __future__ import annotations

from torch import Tensor

from ...tokens import empty_like
from .library import library


def forward(x: Tensor, weight: Tensor, bias: Tensor, order: Tensor) -> Tensor:
    """Compute the outputs; arguments as in the operation's schema."""
    y = x.new_empty((x.shape[0], order.shape[1], order.shape[0], x.shape[-1]))
    library().causal_conv_forward(x=x, weight=weight, bias=bias, order=order, y=y)
    return y


def backward(grad_y: Tensor, x: Tensor, weight: Tensor, bias: Tensor, order: Tensor) -> list[Tensor]:
    """Compute the gradients, in the order of the operation's arguments."""
    grads = [empty_like(tensor) for tensor in (x, weight, bias)]
    library().causal_conv_backward(
        x=x,
        weight=weight,
        bias=bias,
        order=order,
        grad_y=grad_y,
        grad_x=grads[0],
        grad_weight=grads[1],
        grad_bias=grads[2],
    )
    return grads
