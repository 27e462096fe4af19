"""Translating our operations for PyTorch's exporter of ``torch.export`` programs to ONNX (``dynamo=True``).

This file needs onnxscript. It reads annotations, which must not be postponed.
"""

from collections.abc import Callable
from typing import Any

import onnx_ir
import torch
from onnxscript import INT32
from onnxscript import opset18 as op

from mmlocalmamba.directions import scan_orders

from .onnx_scan import selective_recurrence


def orders_as_constant(directions: str, height: int, width: int, middle_token: bool, device: str) -> INT32:
    """Give the orders of one size as a constant, int32 (K, L_scan).

    Raises:
        ValueError: If the size is not fixed.
    """
    if not (isinstance(height, int) and isinstance(width, int)):
        raise ValueError('orders are constants in ONNX: fix the height and the width of the image, not the batch size')
    orders = scan_orders(directions.split(), height, width, middle_token=middle_token)
    return op.Constant(value=onnx_ir.tensor(orders.numpy()))


def translation_table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Give what ``torch.onnx.export(..., dynamo=True, custom_translation_table=...)`` needs for our models."""
    return {
        torch.ops.mmlocalmamba.scan_orders.default: orders_as_constant,
        torch.ops.mmlocalmamba.recurrence.default: selective_recurrence,
    }
