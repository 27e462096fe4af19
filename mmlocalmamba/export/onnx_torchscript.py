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


SYMBOLICS: dict[str, Callable[..., Any]] = {
    'mmlocalmamba::scan_orders': orders_as_constant,
    'mmlocalmamba::of_traced_size': of_traced_size,
    'mmlocalmamba::recurrence': recurrence,
    'aten::rms_norm': rms_norm,
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
