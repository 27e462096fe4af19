"""SS2D's depth-wise convolution of feature maps, with SiLU (paper section 4.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .autocast import in_autocast
from .backends import fused, fused_kernels
from .registration import register_operation
from .tokens import check_device, check_tensors

FUSED_KERNEL_SIZE = (3, 3)
"""What the fused kernels convolve with."""


def depthwise_conv2d_silu(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve each channel of a map with a kernel of its own, zeros around the map, and apply SiLU.

    The fused kernels (C++ and Triton) are for 3 x 3. They never store the convolution's output: the backward computes
    it again. Elsewhere it is a few PyTorch calls. Inside autocast it runs in autocast's dtype, as ``nn.Conv2d`` does.

    Args:
        x: Map (B, H, W, D), channels last; float32, float64, bfloat16 or float16.
        weight: (D, 1, height, width) as ``nn.Conv2d`` has it, both odd; any of these dtypes.
        bias: (D,), dtype of ``weight``. Default: none.

    Returns:
        (B, H, W, D), dtype of ``x`` (inside autocast, autocast's).

    Raises:
        ValueError: If shapes or devices do not fit together, or the kernel has an even side.
    """
    try:
        if bias is None:  # the kernels have one code path, and a vector of zeros costs next to nothing
            bias = weight.new_zeros(weight.shape[:1])
        _check(x, weight, bias)
    except AttributeError:
        check_tensors(x=x, weight=weight, bias=bias)
        raise
    if x.dtype == torch.float32 and in_autocast(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    kernels = fused_kernels('depthwise_conv', x.device)
    if kernels is not None and weight.shape[2:] == FUSED_KERNEL_SIZE:
        return _depthwise_conv2d_silu(x, weight, bias, kernels=kernels)
    return depthwise_conv2d_silu_naive(x, weight, bias)


def depthwise_conv2d_silu_naive(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve by PyTorch; arguments as in :func:`depthwise_conv2d_silu`, differentiable by autograd."""
    height, width = weight.shape[2:]
    if x.numel() == 0:  # PyTorch's convolution refuses a map without pixels or channels
        return F.silu(x)
    out = F.conv2d(
        x.permute(0, 3, 1, 2),  # channels last to PyTorch, too: nothing is copied
        weight.to(x.dtype),
        bias.to(x.dtype),
        padding=(height // 2, width // 2),
        groups=x.shape[-1],
    )
    return F.silu(out).permute(0, 2, 3, 1)


def _check(x: Tensor, weight: Tensor, bias: Tensor) -> None:
    if x.dim() != 4:
        raise ValueError(f'x must be a map (B, H, W, D), channels last, got {tuple(x.shape)}')
    channels = x.shape[-1]
    if weight.dim() != 4 or weight.shape[:2] != (channels, 1) or bias.shape != (channels,):
        raise ValueError(
            f'weight {tuple(weight.shape)} and bias {tuple(bias.shape)} do not fit: x {tuple(x.shape)} wants '
            f'({channels}, 1, height, width) and ({channels},)'
        )
    if any(side % 2 == 0 for side in weight.shape[2:]):
        raise ValueError(
            f'the kernel is {weight.shape[2]} x {weight.shape[3]}: both sides must be odd, so that the map keeps its '
            'size; pad an even one with zeros'
        )
    check_device('weight', weight, 'x', x)
    check_device('bias', bias, 'x', x)


def _fake(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x.new_empty(x.shape)


_depthwise_conv2d_silu = register_operation(
    'depthwise_conv2d_silu(Tensor x, Tensor weight, Tensor bias) -> (Tensor y)',
    forward=fused('depthwise_conv', 'forward'),
    fake=_fake,
    backward=fused('depthwise_conv', 'backward'),
    saved=('x', 'weight', 'bias'),
    gradients={name: name for name in ('x', 'weight', 'bias')},
    naive='mmlocalmamba.ops.depthwise_conv.depthwise_conv2d_silu_naive',
)
