"""The library's side of :func:`mmlocalmamba.ops.add_rotate_rms_norm`."""

from __future__ import annotations

from torch import Tensor

from ...add_norm import empty_outputs
from ...tokens import empty_like
from .library import library


def forward(
    hidden: Tensor, before: Tensor | None, weight: Tensor, eps: float, cos: Tensor | None, sin: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Compute the outputs; arguments as in the operation's schema."""
    normed, residual = empty_outputs(hidden, before, weight)
    library().add_norm_forward(
        hidden=hidden,
        residual=before,
        weight=weight,
        cos=cos,
        sin=sin,
        eps=eps,
        normed=normed,
        new_residual=residual,
    )
    return normed, residual


def backward(
    grad_normed: Tensor,
    grad_residual: Tensor,
    residual: Tensor,
    weight: Tensor,
    cos: Tensor | None,
    sin: Tensor | None,
    eps: float,
) -> list[Tensor]:
    """Compute the gradients, in the order of the operation's arguments."""
    grad_sum, grad_weight = empty_like(residual), empty_like(weight)
    library().add_norm_backward(
        grad_normed=grad_normed,
        grad_residual=grad_residual,
        residual=residual,
        weight=weight,
        cos=cos,
        sin=sin,
        eps=eps,
        grad_sum=grad_sum,
        grad_weight=grad_weight,
    )
    return [grad_sum, grad_weight]
