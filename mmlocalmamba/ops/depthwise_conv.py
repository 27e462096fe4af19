"""SS2D's depth-wise convolution of feature maps, with SiLU (paper section 4.1)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .backends import cpu, has_cpu_kernels
from .derivatives import no_second_derivative

FUSED_KERNEL_SIZE = (3, 3)
"""What the compiled CPU kernels convolve with."""


def depthwise_conv2d_silu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve each channel of a map with a kernel of its own, zeros around the map, and apply SiLU.

    The compiled CPU kernels, for 3 x 3, never store the convolution's output: the backward computes it again. Elsewhere
    it is a few PyTorch calls. Inside autocast it runs in autocast's dtype, as ``nn.Conv2d`` does.

    Args:
        x: Map (B, H, W, D), channels last; float32, float64, bfloat16 or float16.
        weight: (D, 1, height, width) as ``nn.Conv2d`` has it, both odd; any of these dtypes.
        bias: (D,), dtype of ``weight``.

    Returns:
        (B, H, W, D), dtype of ``x`` (inside autocast, autocast's).

    Raises:
        ValueError: If shapes do not fit together, or the kernel has an even side.
    """
    _check(x, weight, bias)
    if x.dtype == torch.float32 and torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    if has_cpu_kernels(x.device) and weight.shape[2:] == FUSED_KERNEL_SIZE:
        return _depthwise_conv2d_silu(x, weight, bias)
    return depthwise_conv2d_silu_naive(x, weight, bias)


def depthwise_conv2d_silu_naive(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve by PyTorch; arguments as in :func:`depthwise_conv2d_silu`, differentiable by autograd."""
    height, width = weight.shape[2:]
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


# PyTorch 2.4 takes the types of a custom op as they are: this file must not postpone their evaluation.
@torch.library.custom_op('mmlocalmamba::depthwise_conv2d_silu', mutates_args=())
def _depthwise_conv2d_silu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return cpu.extension().conv2d_forward(x, weight, bias)


@_depthwise_conv2d_silu.register_fake
def _(x, weight, bias):  # type: ignore[no-untyped-def]
    return x.new_empty(x.shape)


@torch.library.custom_op('mmlocalmamba::depthwise_conv2d_silu_backward', mutates_args=())
def _depthwise_conv2d_silu_backward(
    grad_y: Tensor, x: Tensor, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    d_x, d_weight, d_bias = cpu.extension().conv2d_backward(grad_y, x, weight, bias)
    return d_x, d_weight, d_bias


@_depthwise_conv2d_silu_backward.register_fake
def _(grad_y, x, weight, bias):  # type: ignore[no-untyped-def]
    return tuple(t.new_empty(t.shape) for t in (x, weight, bias))


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs)


def _backward(ctx, grad_y):  # type: ignore[no-untyped-def]
    return _depthwise_conv2d_silu_backward(grad_y, *ctx.saved_tensors)


_depthwise_conv2d_silu.register_autograd(_backward, setup_context=_setup_context)
_depthwise_conv2d_silu_backward.register_autograd(
    no_second_derivative(
        'the fused depth-wise convolution', 'mmlocalmamba.ops.depthwise_conv.depthwise_conv2d_silu_naive'
    )
)
