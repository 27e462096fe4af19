"""Gating the scans of all directions by SCAttn's channel gate and adding them up (paper section 4.1, figure 3b)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .autocast import outside_autocast
from .backends import cpu, has_cpu_kernels


def merge_scans(
    y: Tensor,
    weights: Sequence[Tensor],
    z: Tensor | None = None,
    eps: float = 1e-5,
    norm: Sequence[Tensor] = (),
    norm_eps: float = 1e-5,
) -> Tensor:
    r"""Gate each direction's channels by what its scan holds on average, and add the directions up.

    With x = y SiLU(z), or y without z, per direction::

        n    = mean over tokens of LN(x)
        gate = sigmoid(channel_select(GELU(global_reduce(n))))
        out  = sum over directions of gate * x

    With a ``norm`` of the sum, SiLU(z) comes last: x = y, and out = norm(sum over directions of gate * x) SiLU(z).

    The compiled CPU kernels store none of these but the result, not for the backward either; elsewhere it is a few
    PyTorch calls. Inside autocast it runs in the dtype of y.

    Args:
        y: Scans (Bt, K, L, D), tokens in their own places; float32, float64, bfloat16 or float16.
        weights: Weight and bias of the LayerNorm (D,), of ``global_reduce`` (H, D) and (H,), and of ``channel_select``
            (D, H) and (D,): six tensors.
        z: (Bt, L, D), or None. A ``norm`` needs it.
        eps: Of the gate's LayerNorm.
        norm: Weight and bias (D,) of a LayerNorm of the sum. Default: there is none.
        norm_eps: Of that one.

    Returns:
        (Bt, L, D), dtype of ``y``.

    Raises:
        ValueError: If shapes do not fit together.
    """
    _check(y, weights, z, norm)
    with outside_autocast(y.device.type):
        if has_cpu_kernels(y.device):
            return _merge_scans(y, z, list(weights), eps, list(norm), norm_eps)[0]
        return merge_scans_naive(y, weights, z, eps, norm, norm_eps)


def merge_scans_naive(
    y: Tensor,
    weights: Sequence[Tensor],
    z: Tensor | None = None,
    eps: float = 1e-5,
    norm: Sequence[Tensor] = (),
    norm_eps: float = 1e-5,
) -> Tensor:
    """Gate and add up by PyTorch calls; arguments as in :func:`merge_scans`, differentiable by autograd."""
    gate = None if z is None else F.silu(z.to(y.dtype))
    x = y if gate is None or norm else y * gate.unsqueeze(1)
    out = (x * channel_gate(x, weights, eps)).sum(1)
    if gate is None or not norm:
        return out
    weight, bias = (x.to(out.dtype) for x in norm)
    return F.layer_norm(out, weight.shape, weight, bias, norm_eps) * gate


def channel_gate(x: Tensor, weights: Sequence[Tensor], eps: float) -> Tensor:
    """Compute SCAttn's channel gate of tokens x, (..., L, D); returns (..., 1, D)."""
    norm_weight, norm_bias, reduce_weight, reduce_bias, select_weight, select_bias = (w.to(x.dtype) for w in weights)
    mean = torch.addcmul(norm_bias, mean_of_norm(x, eps), norm_weight)
    hidden = F.gelu(F.linear(mean, reduce_weight, reduce_bias))
    return torch.sigmoid(F.linear(hidden, select_weight, select_bias))


def mean_of_norm(x: Tensor, eps: float) -> Tensor:
    """Average LN(x), without affine, over tokens (..., L, D) without storing it; returns (..., 1, D).

    The mean is linear in x once the moments of every token are known.
    """
    variance, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
    weights = torch.rsqrt(variance + eps)  # (..., L, 1)
    total = weights.transpose(-1, -2) @ x - (weights * mean).sum(-2, keepdim=True)
    return total / x.shape[-2]


def _check(y: Tensor, weights: Sequence[Tensor], z: Tensor | None, norm: Sequence[Tensor]) -> None:
    if y.dim() != 4:
        raise ValueError(f'y must be (Bt, K, L, D), got {tuple(y.shape)}')
    channels, hidden = y.shape[-1], weights[2].shape[0]
    wanted = [(channels,), (channels,), (hidden, channels), (hidden,), (channels, hidden), (channels,)]
    if [tuple(w.shape) for w in weights] != wanted:
        raise ValueError(
            f'weights have shapes {[tuple(w.shape) for w in weights]}, but y {tuple(y.shape)} wants {wanted}'
        )
    if z is not None and z.shape != (y.shape[0], *y.shape[2:]):
        raise ValueError(f'z has shape {tuple(z.shape)}, but y {tuple(y.shape)} wants {(y.shape[0], *y.shape[2:])}')
    if norm and z is None:
        raise ValueError('a norm comes between the sum and SiLU(z): pass z with it')
    if norm and [tuple(x.shape) for x in norm] != 2 * [(channels,)]:
        raise ValueError(
            f'norm has shapes {[tuple(x.shape) for x in norm]}, but y {tuple(y.shape)} wants two of {(channels,)}'
        )


# Schemas are written out because PyTorch 2.4 does not know the type list[Tensor].
@torch.library.custom_op(
    'mmlocalmamba::merge_scans',
    mutates_args=(),
    schema='(Tensor y, Tensor? z, Tensor[] weights, float eps, Tensor[] norm, float norm_eps) '
    '-> (Tensor, Tensor, Tensor)',
)
def _merge_scans(
    y: Tensor, z: Tensor | None, weights: list[Tensor], eps: float, norm: list[Tensor], norm_eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    return cpu.extension().merge_forward(y, z, weights, eps, norm, norm_eps)


@_merge_scans.register_fake
def _(y, z, weights, eps, norm, norm_eps):  # type: ignore[no-untyped-def]
    dtype = torch.float64 if y.dtype == torch.float64 else torch.float32
    table = y.new_empty((*y.shape[:2], y.shape[-1]), dtype=dtype)
    return y.new_empty((y.shape[0], *y.shape[2:])), table, torch.empty_like(table)


@torch.library.custom_op(
    'mmlocalmamba::merge_scans_backward',
    mutates_args=(),
    schema='(Tensor grad_out, Tensor y, Tensor? z, Tensor[] weights, Tensor mean, Tensor gates, float eps, '
    'Tensor[] norm, float norm_eps) -> Tensor[]',
)
def _merge_scans_backward(
    grad_out: Tensor,
    y: Tensor,
    z: Tensor | None,
    weights: list[Tensor],
    mean: Tensor,
    gates: Tensor,
    eps: float,
    norm: list[Tensor],
    norm_eps: float,
) -> list[Tensor]:
    return cpu.extension().merge_backward(grad_out, y, z, weights, mean, gates, eps, norm, norm_eps)


@_merge_scans_backward.register_fake
def _(grad_out, y, z, weights, mean, gates, eps, norm, norm_eps):  # type: ignore[no-untyped-def]
    grad_z = y.new_empty(0) if z is None else y.new_empty(z.shape)
    return [y.new_empty(y.shape), grad_z, *(w.new_empty(w.shape) for w in (*weights, *norm))]


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    y, z, weights, ctx.eps, norm, ctx.norm_eps = inputs
    _, mean, gates = output
    ctx.mark_non_differentiable(mean, gates)
    ctx.has_z = z is not None
    ctx.save_for_backward(y, *([z] if ctx.has_z else []), mean, gates, *weights, *norm)


def _backward(ctx, grad_out, _grad_mean, _grad_gates):  # type: ignore[no-untyped-def]
    y, *others = ctx.saved_tensors
    z = others.pop(0) if ctx.has_z else None
    mean, gates, *parameters = others
    weights, norm = parameters[:6], parameters[6:]
    grad_y, grad_z, *grads = _merge_scans_backward(grad_out, y, z, weights, mean, gates, ctx.eps, norm, ctx.norm_eps)
    return grad_y, grad_z.to(z.dtype) if ctx.has_z else None, grads[:6], None, grads[6:], None


_merge_scans.register_autograd(_backward, setup_context=_setup_context)
