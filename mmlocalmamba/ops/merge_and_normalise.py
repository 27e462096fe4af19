"""LocalVMamba's merge: gate the scans of all directions by SCAttn, add them up, normalise (paper figure 3)."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from .autocast import outside_autocast
from .backends import fused, fused_kernels
from .channel_gate import ChannelGate, channel_gate, check_z, empty_outputs
from .registration import register_operation
from .tokens import check_device, check_tensors


class OutputNorm(NamedTuple):
    """The LayerNorm of the sum of all directions.

    Attributes:
        weight: (D,), any floating-point dtype.
        bias: (D,).
        eps: Added to the variance.
    """

    weight: Tensor
    bias: Tensor
    eps: float = 1e-5


def merge_and_normalise(y: Tensor, z: Tensor, gate: ChannelGate, norm: OutputNorm) -> Tensor:
    r"""Weigh the scans' channels by SCAttn's channel gate, add the directions up, normalise, multiply by SiLU(z).

    With the gate of :func:`~mmlocalmamba.ops.channel_gate.channel_gate`, per direction::

        out = LayerNorm(sum over directions of gate(y) * y) * SiLU(z)

    The fused kernels (C++ and Triton) store none of this but the result, not for the backward either. Elsewhere it is
    a few PyTorch calls. Inside autocast it runs in the dtype of y.

    Args:
        y: Scans (Bt, K, L, D), tokens in their own places; float32, float64, bfloat16 or float16.
        z: (Bt, L, D); any of these dtypes.
        gate: Weights of the channel gate.
        norm: The LayerNorm of the sum.

    Returns:
        (Bt, L, D), dtype of ``y``.

    Raises:
        ValueError: If shapes or devices do not fit together.
    """
    try:
        gate.check(y)
        check_z(y, z)
    except AttributeError:
        check_tensors(y=y, z=z, **dict(zip(gate._fields, gate.tensors, strict=False)))
        raise
    for name, tensor in (('weight', norm.weight), ('bias', norm.bias)):
        if not isinstance(tensor, Tensor):
            check_tensors(**{f'{name} of the norm': tensor})
        if tensor.shape != y.shape[-1:]:
            wanted = tuple(y.shape[-1:])
            raise ValueError(
                f'{name} of the norm has shape {tuple(tensor.shape)}, but y {tuple(y.shape)} wants {wanted}'
            )
        check_device(f'{name} of the norm', tensor, 'y', y)
    with outside_autocast(y.device.type):
        kernels = fused_kernels('merge_and_normalise', y.device)
        if kernels is not None:
            return _merge_and_normalise(y, z, *gate, *norm, kernels=kernels)[0]
        return merge_and_normalise_naive(y, z, gate, norm)


def merge_and_normalise_naive(y: Tensor, z: Tensor, gate: ChannelGate, norm: OutputNorm) -> Tensor:
    """Do it by PyTorch calls; arguments as in :func:`merge_and_normalise`, differentiable by autograd."""
    out = (y * channel_gate(y, gate)).sum(1)
    weight, bias = norm.weight.to(y.dtype), norm.bias.to(y.dtype)
    return F.layer_norm(out, weight.shape, weight, bias, norm.eps) * F.silu(z.to(y.dtype))


_WEIGHTS = ChannelGate._fields[:-1]
_NORM = ('out_norm_weight', 'out_norm_bias')
_SCHEMA = ', '.join(
    [
        *(f'Tensor {name}' for name in ('y', 'z', *_WEIGHTS)),
        'float eps',
        *(f'Tensor {name}' for name in _NORM),
        'float out_eps',
    ]
)

_merge_and_normalise = register_operation(
    f'merge_and_normalise({_SCHEMA}) -> (Tensor out, Tensor mean, Tensor gates)',
    forward=fused('merge_and_normalise', 'forward'),
    fake=empty_outputs,
    backward=fused('merge_and_normalise', 'backward'),
    saved=('y', 'z', *_WEIGHTS, *_NORM, 'mean', 'gates'),
    gradients={name: name for name in ('y', 'z', *_WEIGHTS, *_NORM)},
    naive='mmlocalmamba.ops.merge_and_normalise.merge_and_normalise_naive',
)
