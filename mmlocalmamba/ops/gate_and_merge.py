"""LocalVim's merge: gate the scans of all directions by SiLU(z) and by SCAttn, and add them up (paper figure 3)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .autocast import outside_autocast
from .backends import fused, fused_kernels
from .channel_gate import ChannelGate, channel_gate, check_z, empty_outputs
from .registration import register_operation
from .tokens import check_tensors


def gate_and_merge(y: Tensor, z: Tensor, gate: ChannelGate) -> Tensor:
    r"""Multiply scans by SiLU(z), weigh their channels by SCAttn's channel gate, and add the directions up.

    With x = y SiLU(z), per direction, and the gate of :func:`~mmlocalmamba.ops.channel_gate.channel_gate`::

        out = sum over directions of gate(x) * x

    The fused kernels (C++ and Triton) store none of this but the result, not for the backward either. Elsewhere it is
    a few PyTorch calls. Inside autocast it runs in the dtype of y.

    Args:
        y: Scans (Bt, K, L, D), tokens in their own places; float32, float64, bfloat16 or float16.
        z: (Bt, L, D); any of these dtypes.
        gate: Weights of the channel gate.

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
    with outside_autocast(y.device.type):
        kernels = fused_kernels('gate_and_merge', y.device)
        if kernels is not None:
            return _gate_and_merge(y, z, *gate, kernels=kernels)[0]
        return gate_and_merge_naive(y, z, gate)


def gate_and_merge_naive(y: Tensor, z: Tensor, gate: ChannelGate) -> Tensor:
    """Do it by PyTorch calls; arguments as in :func:`gate_and_merge`, differentiable by autograd."""
    x = y * F.silu(z.to(y.dtype)).unsqueeze(1)
    return (x * channel_gate(x, gate)).sum(1)


_WEIGHTS = ChannelGate._fields[:-1]

_gate_and_merge = register_operation(
    f'gate_and_merge(Tensor y, Tensor z, {", ".join(f"Tensor {name}" for name in _WEIGHTS)}, float eps) -> '
    '(Tensor out, Tensor mean, Tensor gates)',
    forward=fused('gate_and_merge', 'forward'),
    fake=empty_outputs,
    backward=fused('gate_and_merge', 'backward'),
    saved=('y', 'z', *_WEIGHTS, 'mean', 'gates'),
    gradients={name: name for name in ('y', 'z', *_WEIGHTS)},
    naive='mmlocalmamba.ops.gate_and_merge.gate_and_merge_naive',
)
