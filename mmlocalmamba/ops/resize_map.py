"""Bicubic resizing of maps as one node of a compiled model's graph.

Inductor takes PyTorch's own bicubic resizing apart into sixteen gathers, whose indices are formulas of both sizes. With
dynamic sizes it takes minutes over them, or fails on a scale that is no plain quotient (torch 2.14).
"""

import torch
import torch.nn.functional as F
from torch import Tensor


# PyTorch 2.4 takes the types of a custom op as they are: this file must not postpone their evaluation.
@torch.library.custom_op('mmlocalmamba::resize_map', mutates_args=())
def _resize_map(x: Tensor, height: int, width: int) -> Tensor:
    # Contiguous, as compilers are told below: otherwise channels come last where they do in x.
    return F.interpolate(x, size=(height, width), mode='bicubic', align_corners=False).contiguous()


@_resize_map.register_fake
def _(x: Tensor, height: int, width: int) -> Tensor:
    return x.new_empty(x.shape[0], x.shape[1], height, width)


@torch.library.custom_op('mmlocalmamba::resize_map_backward', mutates_args=())
def _resize_map_backward(grad: Tensor, height: int, width: int) -> Tensor:
    shape = (*grad.shape[:2], height, width)
    return torch.ops.aten.upsample_bicubic2d_backward(grad, grad.shape[-2:], shape, False, None, None).contiguous()


@_resize_map_backward.register_fake
def _(grad: Tensor, height: int, width: int) -> Tensor:
    return grad.new_empty(grad.shape[0], grad.shape[1], height, width)


def _setup_context(ctx: object, inputs: tuple[Tensor, int, int], output: Tensor) -> None:
    ctx.size = inputs[0].shape[-2:]  # type: ignore[attr-defined]


def _backward(ctx: object, grad: Tensor) -> tuple[Tensor, None, None]:
    return _resize_map_backward(grad, *ctx.size), None, None  # type: ignore[attr-defined]


_resize_map.register_autograd(_backward, setup_context=_setup_context)


def resize_map(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps bicubically.

    Args:
        x: (B, C, H, W), floating point.
        size: Height and width wanted, plain or symbolic.

    Returns:
        (B, C, *size), dtype of ``x``.
    """
    if torch.compiler.is_compiling() and not torch.onnx.is_in_onnx_export():
        return _resize_map(x, *size)
    return F.interpolate(x, size=size, mode='bicubic', align_corners=False)
