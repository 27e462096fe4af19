"""The library's side of :func:`mmlocalmamba.ops.add_rotate_rms_norm`."""

from __future__ import annotations

from torch import Tensor

from ...add_norm import empty_outputs
from ...tokens import unit_stride
from .library import library


def forward(
    hidden: Tensor, before: Tensor | None, weight: Tensor, eps: float, cos: Tensor | None, sin: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Compute the outputs; arguments as in the operation's schema."""
    normed, residual = empty_outputs(hidden, before, weight)
    library().add_norm_forward(
        hidden=unit_stride(hidden),
        residual=None if before is None else unit_stride(before),
        **_constants(weight, cos, sin),
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
    grad_sum, grad_weight = residual.new_empty(residual.shape), weight.new_empty(weight.shape)
    library().add_norm_backward(
        grad_normed=unit_stride(grad_normed),
        grad_residual=unit_stride(grad_residual.to(residual.dtype)),
        residual=unit_stride(residual),
        **_constants(weight, cos, sin),
        eps=eps,
        grad_sum=grad_sum,
        grad_weight=grad_weight,
    )
    return [grad_sum, grad_weight]


def _constants(weight: Tensor, cos: Tensor | None, sin: Tensor | None) -> dict[str, Tensor | None]:
    return dict(
        weight=weight.contiguous(),
        cos=None if cos is None else cos.contiguous(),
        sin=None if sin is None else sin.contiguous(),
    )
