"""What comes before LocalVim's mixer: the residual stream's sum, its rotary embedding and RMSNorm."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .backends import fused, fused_kernels
from .registration import register_operation
from .tokens import check_device, check_tensors, empty_like


def add_rotate_rms_norm(
    hidden: Tensor,
    residual: Tensor | None,
    weight: Tensor,
    eps: float,
    rotary: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Add hidden states to the residual stream, rotate the sum, and normalise it.

    The fused kernels (C++ and Triton) do all of it in one pass, and keep only the new residual for the backward;
    elsewhere it is a few PyTorch calls.

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
        ValueError: If shapes or devices do not fit together, or a table asks for a gradient.
    """
    try:
        _check(hidden, residual, weight, rotary)
    except AttributeError:
        others = {} if residual is None else dict(residual=residual)
        check_tensors(hidden=hidden, weight=weight, **others, **dict(zip(('cosine', 'sine'), rotary or ())))  # noqa: B905
        raise
    kernels = fused_kernels('add_norm', hidden.device)
    if kernels is not None:
        return _add_rotate_rms_norm(hidden, residual, weight, eps, *(rotary or (None, None)), kernels=kernels)
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
    if _fits(hidden, residual, weight, rotary):
        return
    if hidden.dim() != 3:
        raise ValueError(f'hidden must be (B, L, C), got {tuple(hidden.shape)}')
    _, length, channels = hidden.shape
    if residual is not None and residual.shape != hidden.shape:
        raise ValueError(f'residual {tuple(residual.shape)} does not fit: hidden is {tuple(hidden.shape)}')
    if weight.shape != (channels,):
        raise ValueError(f'weight {tuple(weight.shape)} does not fit: hidden {tuple(hidden.shape)} wants {(channels,)}')
    others = dict(residual=residual, weight=weight, cosine=rotary and rotary[0], sine=rotary and rotary[1])
    for name, tensor in others.items():
        if isinstance(tensor, Tensor):
            check_device(name, tensor, 'hidden', hidden)
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


def empty_outputs(hidden: Tensor, before: Tensor | None, weight: Tensor, **_: object) -> tuple[Tensor, Tensor]:
    """Make room for normed, in the dtype of ``weight``, and for the new residual, in the compute dtype."""
    doubles = hidden.dtype == torch.float64 or (before is not None and before.dtype == torch.float64)
    return empty_like(hidden, weight.dtype), empty_like(hidden, torch.float64 if doubles else torch.float32)


def _fits(hidden: Tensor, residual: Tensor | None, weight: Tensor, rotary: tuple[Tensor, Tensor] | None) -> bool:
    """Tell quickly whether all is as it should be: every layer of a model asks in every step."""
    shape, device = hidden.shape, hidden.device
    if len(shape) != 3 or weight.shape != shape[2:] or weight.device != device:
        return False
    if residual is not None and (residual.shape != shape or residual.device != device):
        return False
    return rotary is None or (
        shape[2] % 2 == 0 and all(x.shape == shape[1:] and x.device == device and not x.requires_grad for x in rotary)
    )


# hidden and the stream before enter as a sum: one gradient, shaped like the new residual, serves both.
_add_rotate_rms_norm = register_operation(
    'add_rotate_rms_norm(Tensor hidden, Tensor? before, Tensor weight, float eps, Tensor? cos, Tensor? sin) -> '
    '(Tensor normed, Tensor residual)',
    forward=fused('add_norm', 'forward'),
    fake=empty_outputs,
    backward=fused('add_norm', 'backward'),
    saved=('residual', 'weight', 'cos', 'sin'),
    gradients={'hidden': 'residual', 'before': 'residual', 'weight': 'weight'},
    results=2,
    naive='mmlocalmamba.ops.add_norm.add_rotate_rms_norm_naive',
)
