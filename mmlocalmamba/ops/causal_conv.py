"""LocalVim's depth-wise causal convolution along scan orders, with SiLU (paper figure 3a)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .backends import fused, fused_kernels
from .registration import register_operation
from .tokens import check_device, check_order, check_tensors, gather_tokens


def local_causal_conv1d(x: Tensor, weight: Tensor, bias: Tensor, order: Tensor) -> Tensor:
    """Bring tokens into the order of each scan, convolve each sequence causally and apply SiLU.

    Per direction k and channel d, with ``x_l`` zero at padding and before the start::

        y_l = SiLU(bias + sum over j of weight_j x_(l - width + 1 + j))

    So padding that follows tokens within ``width`` gets values, which the scan then carries.

    The fused kernels (C++ and Triton) gather by order inside. Elsewhere it is a few PyTorch calls, which torch.compile
    fuses.

    Args:
        x: Tokens in their own places, (Bt, L, D); float32, float64, bfloat16 or float16.
        weight: (K, D, width), any of these dtypes.
        bias: (K, D), dtype of ``weight``.
        order: int32 (K, L_scan) from :func:`mmlocalmamba.directions.scan_orders`. The Triton kernels give NaN as the
            gradient of a token that a direction visits again.

    Returns:
        (Bt, L_scan, K, D) in scan order, dtype of ``x``.

    Raises:
        ValueError: If shapes, dtypes or devices do not fit together, or ``order`` names a token that there is not.
    """
    try:
        _check(x, weight, bias, order)
    except AttributeError:
        check_tensors(x=x, weight=weight, bias=bias, order=order)
        raise
    kernels = fused_kernels('causal_conv', x.device)
    if kernels is not None:
        return _causal_conv1d(x, weight, bias, order, kernels=kernels)
    return causal_conv1d_naive(x, weight, bias, order)


def causal_conv1d_naive(x: Tensor, weight: Tensor, bias: Tensor, order: Tensor) -> Tensor:
    """Convolve tap by tap; arguments as in :func:`local_causal_conv1d`, differentiable by autograd."""
    check_order(order, x.shape[1], once=False)
    compute = torch.promote_types(x.dtype, torch.float32)
    width, length = weight.shape[-1], order.shape[1]
    padded = F.pad(gather_tokens(x, order).to(compute), (0, 0, 0, 0, width - 1, 0))
    taps = weight.to(compute).unbind(-1)
    out = bias.to(compute) + sum(padded[:, j : j + length] * tap for j, tap in enumerate(taps))
    return F.silu(out).to(x.dtype)


def _check(x: Tensor, weight: Tensor, bias: Tensor, order: Tensor) -> None:
    if x.dim() != 3 or order.dim() != 2 or order.dtype != torch.int32:
        raise ValueError(
            f'x must be (Bt, L, D) and order int32 (K, L_scan), got {tuple(x.shape)} and {order.dtype} '
            f'{tuple(order.shape)}'
        )
    wanted, shape = (order.shape[0], x.shape[2]), weight.shape
    if len(shape) != 3 or shape[:2] != wanted or shape[2] < 1 or bias.shape != wanted:
        raise ValueError(
            f'weight {tuple(weight.shape)} and bias {tuple(bias.shape)} do not fit: x {tuple(x.shape)} and order '
            f'{tuple(order.shape)} want ({wanted[0]}, {wanted[1]}, width) and {wanted}'
        )
    check_device('weight', weight, 'x', x)
    check_device('bias', bias, 'x', x)
    check_device('order', order, 'x', x)


def _fake(x: Tensor, weight: Tensor, bias: Tensor, order: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], order.shape[1], order.shape[0], x.shape[-1])


_causal_conv1d = register_operation(
    'causal_conv1d(Tensor x, Tensor weight, Tensor bias, Tensor order) -> (Tensor y)',
    forward=fused('causal_conv', 'forward'),
    fake=_fake,
    backward=fused('causal_conv', 'backward'),
    saved=('x', 'weight', 'bias', 'order'),
    gradients={name: name for name in ('x', 'weight', 'bias')},
    naive='mmlocalmamba.ops.causal_conv.causal_conv1d_naive',
)
