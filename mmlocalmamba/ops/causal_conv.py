"""LocalVim's depth-wise causal convolution along scan orders, with SiLU (paper figure 3a)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .backends import cpu, has_cpu_kernels
from .tokens import gather_tokens


def local_causal_conv1d(x: Tensor, weight: Tensor, bias: Tensor, order: Tensor) -> Tensor:
    """Bring tokens into the order of each scan, convolve each sequence causally and apply SiLU.

    Per direction k and channel d, with ``x_l`` zero at padding and before the start::

        y_l = SiLU(bias + sum over j of weight_j x_(l - width + 1 + j))

    So padding that follows tokens within ``width`` gets values, which the scan then carries.

    The compiled CPU kernels gather by order inside; elsewhere it is a few PyTorch calls, which torch.compile fuses.

    Args:
        x: Tokens in their own places, (Bt, L, D); float32, float64, bfloat16 or float16.
        weight: (K, D, width), any of these dtypes.
        bias: (K, D), dtype of ``weight``.
        order: int32 (K, L_scan) from :func:`mmlocalmamba.directions.scan_orders`.

    Returns:
        (Bt, L_scan, K, D) in scan order, dtype of ``x``.

    Raises:
        ValueError: If shapes do not fit together.
    """
    directions = order.shape[0]
    if weight.dim() != 3 or weight.shape[:2] != (directions, x.shape[-1]) or bias.shape != weight.shape[:2]:
        raise ValueError(
            f'weight {tuple(weight.shape)} and bias {tuple(bias.shape)} do not fit: x {tuple(x.shape)} and order '
            f'{tuple(order.shape)} want ({directions}, {x.shape[-1]}, width) and ({directions}, {x.shape[-1]})'
        )
    if has_cpu_kernels(x.device):
        return _causal_conv1d(x, weight, bias, order)
    return causal_conv1d_naive(x, weight, bias, order)


def causal_conv1d_naive(x: Tensor, weight: Tensor, bias: Tensor, order: Tensor) -> Tensor:
    """Convolve tap by tap; arguments as in :func:`local_causal_conv1d`, differentiable by autograd."""
    compute = torch.promote_types(x.dtype, torch.float32)
    width, length = weight.shape[-1], order.shape[1]
    padded = F.pad(gather_tokens(x, order).to(compute), (0, 0, 0, 0, width - 1, 0))
    taps = weight.to(compute).unbind(-1)
    out = bias.to(compute) + sum(padded[:, j : j + length] * tap for j, tap in enumerate(taps))
    return F.silu(out).to(x.dtype)


# PyTorch 2.4 takes the types of a custom op as they are: this file must not postpone their evaluation.
@torch.library.custom_op('mmlocalmamba::causal_conv1d', mutates_args=())
def _causal_conv1d(x: Tensor, weight: Tensor, bias: Tensor, order: Tensor) -> Tensor:
    return cpu.extension().conv_forward(x, weight, bias, order)


@_causal_conv1d.register_fake
def _(x, weight, bias, order):  # type: ignore[no-untyped-def]
    return x.new_empty(x.shape[0], order.shape[1], order.shape[0], x.shape[-1])


@torch.library.custom_op('mmlocalmamba::causal_conv1d_backward', mutates_args=())
def _causal_conv1d_backward(
    grad_y: Tensor, x: Tensor, weight: Tensor, bias: Tensor, order: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    d_x, d_weight, d_bias = cpu.extension().conv_backward(grad_y, x, weight, bias, order)
    return d_x, d_weight, d_bias


@_causal_conv1d_backward.register_fake
def _(grad_y, x, weight, bias, order):  # type: ignore[no-untyped-def]
    return tuple(torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in (x, weight, bias))


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs)


def _backward(ctx, grad_y):  # type: ignore[no-untyped-def]
    return *_causal_conv1d_backward(grad_y, *ctx.saved_tensors), None


_causal_conv1d.register_autograd(_backward, setup_context=_setup_context)
