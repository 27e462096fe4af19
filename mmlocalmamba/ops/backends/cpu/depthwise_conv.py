"""The library's side of :func:`mmlocalmamba.ops.depthwise_conv2d_silu`."""

from __future__ import annotations

from torch import Tensor

from ...tokens import empty_like
from .library import library


def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute the outputs; arguments as in the operation's schema."""
    y = empty_like(x)
    library().depthwise_conv_forward(x=x, weight=weight, bias=bias, y=y)
    return y


def backward(grad_y: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> list[Tensor]:
    """Compute the gradients, in the order of the operation's arguments."""
    grads = [empty_like(tensor) for tensor in (x, weight, bias)]
    library().depthwise_conv_backward(
        x=x,
        weight=weight,
        bias=bias,
        grad_y=grad_y,
        grad_x=grads[0],
        grad_weight=grads[1],
        grad_bias=grads[2],
    )
    return grads
