"""What comes before LocalVim's mixer: the residual stream's sum, its rotary embedding and RMSNorm."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .backends import cpu, has_cpu_kernels
from .derivatives import no_second_derivative


def add_rotate_rms_norm(
    hidden: Tensor,
    residual: Tensor | None,
    weight: Tensor,
    eps: float,
    rotary: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Add hidden states to the residual stream, rotate the sum, and normalise it.

    The compiled CPU kernels do all of it in one pass, and keep only the new residual for the backward; elsewhere it is
    a few PyTorch calls.

    Args:
        hidden: (B, L, C); float32, float64, bfloat16 or float16.
        residual: The residual stream (B, L, C) to add it to, or None: then ``hidden`` begins one.
        weight: (C,) of the RMSNorm, any of these dtypes.
        eps: Of the RMSNorm.
        rotary: Cosine and sine (L, C), by which :func:`rotate_pairs` turns the sum; C is even then. They are constants:
            the backward has no gradient of them. Default: nothing is turned.

    Returns:
        ``(normed, residual)``, (B, L, C) each: the normalised tokens in the dtype of ``weight``, and the new residual
        stream in float32, or float64 if ``hidden`` or ``residual`` is.

    Raises:
        ValueError: If shapes do not fit together, or a table asks for a gradient.
    """
    _check(hidden, residual, weight, rotary)
    if has_cpu_kernels(hidden.device):
        return _add_rotate_rms_norm(hidden, residual, weight, eps, *(rotary or (None, None)))
    return add_rotate_rms_norm_naive(hidden, residual, weight, eps, rotary)


def add_rotate_rms_norm_naive(
    hidden: Tensor,
    residual: Tensor | None,
    weight: Tensor,
    eps: float,
    rotary: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Do it by PyTorch calls; arguments as in :func:`add_rotate_rms_norm`, differentiable by autograd."""
    hidden = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
    residual = hidden if residual is None else residual + hidden
    if rotary is not None:
        residual = rotate_pairs(residual, rotary)
    return F.rms_norm(residual, weight.shape, weight, eps).to(weight.dtype), residual


def rotate_pairs(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate interleaved pairs of channels of x (B, L, C) by tables of cosines and sines, (L, C) each."""
    cos, sin = rotary
    pairs = x.unflatten(-1, (-1, 2))
    turned = torch.stack([-pairs[..., 1], pairs[..., 0]], -1).flatten(-2)
    return (x * cos + turned * sin).to(x.dtype)


def _check(hidden: Tensor, residual: Tensor | None, weight: Tensor, rotary: tuple[Tensor, Tensor] | None) -> None:
    if hidden.dim() != 3:
        raise ValueError(f'hidden must be (B, L, C), got {tuple(hidden.shape)}')
    _, length, channels = hidden.shape
    if residual is not None and residual.shape != hidden.shape:
        raise ValueError(f'residual {tuple(residual.shape)} does not fit: hidden is {tuple(hidden.shape)}')
    if weight.shape != (channels,):
        raise ValueError(f'weight {tuple(weight.shape)} does not fit: hidden {tuple(hidden.shape)} wants {(channels,)}')
    if rotary is None:
        return
    if channels % 2:
        raise ValueError(f'rotary tables turn pairs of channels, but hidden {tuple(hidden.shape)} has {channels}')
    for name, table in dict(cosine=rotary[0], sine=rotary[1]).items():
        if table.shape != (length, channels):
            raise ValueError(
                f'the {name} table {tuple(table.shape)} does not fit: hidden {tuple(hidden.shape)} wants '
                f'{(length, channels)}'
            )
        if table.requires_grad:
            raise ValueError(f'the {name} table asks for a gradient, which there is not: pass it detached')


# PyTorch 2.4 takes the types of a custom op as they are: this file must not postpone their evaluation.
@torch.library.custom_op('mmlocalmamba::add_rotate_rms_norm', mutates_args=())
def _add_rotate_rms_norm(
    hidden: Tensor, residual: Tensor | None, weight: Tensor, eps: float, cos: Tensor | None, sin: Tensor | None
) -> tuple[Tensor, Tensor]:
    return cpu.extension().add_norm_forward(hidden, residual, weight, eps, cos, sin)


@_add_rotate_rms_norm.register_fake
def _(hidden, residual, weight, eps, cos, sin):  # type: ignore[no-untyped-def]
    doubles = torch.float64 in (hidden.dtype, None if residual is None else residual.dtype)
    dtype = torch.float64 if doubles else torch.float32
    return tuple(hidden.new_empty(hidden.shape, dtype=kind) for kind in (weight.dtype, dtype))


@torch.library.custom_op('mmlocalmamba::add_rotate_rms_norm_backward', mutates_args=())
def _add_rotate_rms_norm_backward(
    grad_normed: Tensor,
    grad_residual: Tensor,
    residual: Tensor,
    weight: Tensor,
    eps: float,
    cos: Tensor | None,
    sin: Tensor | None,
) -> tuple[Tensor, Tensor]:
    return cpu.extension().add_norm_backward(grad_normed, grad_residual, residual, weight, eps, cos, sin)


@_add_rotate_rms_norm_backward.register_fake
def _(grad_normed, grad_residual, residual, weight, eps, cos, sin):  # type: ignore[no-untyped-def]
    return residual.new_empty(residual.shape), weight.new_empty(weight.shape)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    hidden, before, weight, ctx.eps, cos, sin = inputs
    ctx.dtypes = (hidden.dtype, None if before is None else before.dtype)
    ctx.save_for_backward(output[1], weight, cos, sin)


def _backward(ctx, grad_normed, grad_residual):  # type: ignore[no-untyped-def]
    residual, weight, *tables = ctx.saved_tensors
    d_sum, d_weight = _add_rotate_rms_norm_backward(grad_normed, grad_residual, residual, weight, ctx.eps, *tables)
    d_hidden, d_before = (None if dtype is None else d_sum.to(dtype) for dtype in ctx.dtypes)
    return d_hidden, d_before, d_weight, None, None, None


_add_rotate_rms_norm.register_autograd(_backward, setup_context=_setup_context)
_add_rotate_rms_norm_backward.register_autograd(
    no_second_derivative('the fused residual norm', 'mmlocalmamba.ops.add_norm.add_rotate_rms_norm_naive')
)
