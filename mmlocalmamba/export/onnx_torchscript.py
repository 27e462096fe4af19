"""Symbolic functions of our operations for PyTorch's TorchScript exporter to ONNX, which mmdeploy uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.onnx.symbolic_helper import parse_args

from mmlocalmamba.directions import scan_orders

from .onnx_scan import selective_recurrence

OPSET = 18
"""Opset from which on the symbolic functions hold: that of the functions they call."""


@parse_args('s', 'i', 'i', 'b', 's')
def orders_as_constant(g: Any, directions: str, height: int, width: int, middle_token: bool, device: str) -> Any:
    """Give the orders of the size that the model was traced at, int32 (K, L_scan)."""
    orders = scan_orders(directions.split(), height, width, middle_token=bool(middle_token))
    return g.op('Constant', value_t=orders)


@parse_args('v', 'i', 'i')
def of_traced_size(g: Any, image: Any, height: int, width: int) -> Any:
    """Let the runtime refuse an image of another size: it cannot be expanded to the size that was traced."""
    size = torch.tensor([1, 1, height, width])
    return g.op('Expand', image, g.op('Constant', value_t=size)).setType(image.type())


def recurrence(g: Any, *inputs: Any) -> Any:
    """Call the recurrence; its inputs are those of :func:`.onnx_scan.selective_recurrence`."""
    return g.onnxscript_op(selective_recurrence, *inputs).setType(inputs[1].type())


@parse_args('v', 'is', 'v', 'f')
def rms_norm(g: Any, x: Any, normalized_shape: list[int], weight: Any, eps: float) -> Any:
    """Divide by the root of the mean square over the last axis: the exporter has no RMSNorm of its own."""
    last = g.op('Constant', value_t=torch.tensor([-1]))
    mean = g.op('ReduceMean', g.op('Mul', x, x), last, keepdims_i=1)
    root = g.op('Sqrt', g.op('Add', mean, g.op('Constant', value_t=torch.tensor(eps))))
    return g.op('Mul', g.op('Div', x, root), weight).setType(x.type())


@parse_args('v', 'is')
def adaptive_avg_pool2d(g: Any, x: Any, output_size: list[int]) -> Any:
    """Average over windows of any size: the exporter has none of its own unless the map is a multiple of the output.

    A window is a rectangle, so its mean is one over rows of one over columns: a product with a matrix on either side.
    """
    if list(output_size) == [1, 1]:
        return g.op('GlobalAveragePool', x)
    shape = g.op('Shape', x)
    over_rows, over_columns = (
        _window_means(g, g.op('Gather', shape, g.op('Constant', value_t=torch.tensor(axis))), count)
        for axis, count in zip((2, 3), output_size, strict=True)
    )
    return g.op('MatMul', g.op('MatMul', over_rows, x), g.op('Transpose', over_columns, perm_i=[1, 0]))


def _window_means(g: Any, length: Any, count: int) -> Any:
    """Give the matrix (count, length) of means over the windows from floor(i L / count) to ceil((i + 1) L / count)."""
    zero, one = (g.op('Constant', value_t=torch.tensor(value)) for value in (0, 1))
    windows = g.op('Constant', value_t=torch.arange(count).unsqueeze(1))
    divisor = g.op('Constant', value_t=torch.tensor(count))
    start = g.op('Div', g.op('Mul', windows, length), divisor)
    past = g.op('Mul', g.op('Add', windows, one), length)
    end = g.op('Div', g.op('Add', past, g.op('Constant', value_t=torch.tensor(count - 1))), divisor)
    position = g.op('Range', zero, length, one)
    inside = g.op('And', g.op('GreaterOrEqual', position, start), g.op('Less', position, end))
    size = g.op('Cast', g.op('Sub', end, start), to_i=torch.onnx.TensorProtoDataType.FLOAT)
    return g.op('Div', g.op('Cast', inside, to_i=torch.onnx.TensorProtoDataType.FLOAT), size)


SYMBOLICS: dict[str, Callable[..., Any]] = {
    'mmlocalmamba::scan_orders': orders_as_constant,
    'mmlocalmamba::of_traced_size': of_traced_size,
    'mmlocalmamba::recurrence': recurrence,
    'aten::rms_norm': rms_norm,
    'aten::adaptive_avg_pool2d': adaptive_avg_pool2d,
}


def register_symbolics() -> None:
    """Let ``torch.onnx.export(..., dynamo=False, opset_version=18)`` export our models from now on."""
    for name, function in SYMBOLICS.items():
        torch.onnx.register_custom_op_symbolic(name, function, OPSET)


@contextmanager
def registered_symbolics() -> Iterator[None]:
    """Register them for as long as the context lasts."""
    register_symbolics()
    try:
        yield
    finally:
        for name in SYMBOLICS:
            torch.onnx.unregister_custom_op_symbolic(name, OPSET)
