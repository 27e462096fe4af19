"""LocalVMamba's merge: gate the scans of all directions by SCAttn, add them up, normalise (paper figure 3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .autocast import outside_autocast
from .backends import cpu, has_cpu_kernels
from .channel_gate import ChannelGate, channel_gate, check_device, check_z, empty_outputs, gate_gradients
from .registration import register_operation
from .tokens import unit_stride


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

    The compiled CPU kernels store none of this but the result, not for the backward either. Elsewhere it is a few
    PyTorch calls. Inside autocast it runs in the dtype of y.

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
    gate.check(y)
    check_z(y, z)
    for name, tensor in (('weight', norm.weight), ('bias', norm.bias)):
        if tensor.shape != y.shape[-1:]:
            wanted = tuple(y.shape[-1:])
            raise ValueError(
                f'{name} of the norm has shape {tuple(tensor.shape)}, but y {tuple(y.shape)} wants {wanted}'
            )
        check_device(f'{name} of the norm', tensor, y)
    with outside_autocast(y.device.type):
        if has_cpu_kernels(y.device):
            return _merge_and_normalise(y, z, *gate, *norm)[0]
        return merge_and_normalise_naive(y, z, gate, norm)


def merge_and_normalise_naive(y: Tensor, z: Tensor, gate: ChannelGate, norm: OutputNorm) -> Tensor:
    """Do it by PyTorch calls; arguments as in :func:`merge_and_normalise`, differentiable by autograd."""
    out = (y * channel_gate(y, gate)).sum(1)
    weight, bias = norm.weight.to(y.dtype), norm.bias.to(y.dtype)
    return F.layer_norm(out, weight.shape, weight, bias, norm.eps) * F.silu(z.to(y.dtype))


def _forward(y: Tensor, z: Tensor, eps: float, out_eps: float, **weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    out, mean, gates = empty_outputs(y)
    weights = {name: weight.contiguous() for name, weight in weights.items()}
    tokens = dict(y=unit_stride(y), z=unit_stride(z.to(y.dtype)))
    cpu.library().merge_and_normalise_forward(
        **tokens, **weights, eps=eps, out_eps=out_eps, out=out, mean=mean, gates=gates
    )
    return out, mean, gates


def _backward(
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
    library = cpu.library()
    y, gates = unit_stride(y), gates.contiguous()
    grad_sum, grad_z, grad_gates = y.new_empty(z.shape), y.new_empty(z.shape), torch.empty_like(gates)
    grad_weight, grad_bias = (x.new_empty(x.shape) for x in (out_norm_weight, out_norm_bias))
    library.merge_and_normalise_grad_gates(
        grad_out=unit_stride(grad_out.to(y.dtype)),
        y=y,
        z=unit_stride(z.to(y.dtype)),
        gates=gates,
        out_norm_weight=out_norm_weight.contiguous(),
        out_norm_bias=out_norm_bias.contiguous(),
        out_eps=out_eps,
        grad_sum=grad_sum,
        grad_z=grad_z,
        grad_gates=grad_gates,
        grad_out_norm_weight=grad_weight,
        grad_out_norm_bias=grad_bias,
    )
    grads = gate_gradients(ChannelGate(**weights, eps=eps), mean, gates, grad_gates, y.shape[2])
    grad_y = y.new_empty(y.shape)
    library.merge_and_normalise_backward(
        grad_sum=grad_sum, y=y, gates=gates, grad_mean=grads.mean.contiguous(), eps=eps, grad_y=grad_y
    )
    return [grad_y, grad_z.to(z.dtype), *grads.weights, grad_weight, grad_bias]


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
    forward=_forward,
    fake=empty_outputs,
    backward=_backward,
    saved=('y', 'z', *_WEIGHTS, *_NORM, 'mean', 'gates'),
    gradients={name: name for name in ('y', 'z', *_WEIGHTS, *_NORM)},
    naive='mmlocalmamba.ops.merge_and_normalise.merge_and_normalise_naive',
)
