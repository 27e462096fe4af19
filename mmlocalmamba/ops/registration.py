"""Registering an operation with PyTorch: its forward and its backward are one node each, to autograd and compilers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

NAMESPACE = 'mmlocalmamba'

Operation = Callable[..., Any]
"""A registered operation: called with positional arguments, in the order of its schema."""


def register_operation(
    schema: str,
    *,
    forward: Callable[..., Any],
    fake: Callable[..., Any],
    backward: Callable[..., Sequence[Tensor]],
    saved: Sequence[str],
    gradients: Mapping[str, str],
    results: int = 1,
    naive: str,
) -> Operation:
    """Register ``torch.ops.mmlocalmamba.<name>`` and ``<name>_backward``.

    The backward operation takes the gradients of the results (``grad_<result>``), then what is ``saved``, then the
    forward's arguments that are no tensors. All functions given here are called with keyword arguments, by the names
    in the schema, so that no order of arguments has to be kept in step anywhere.

    Args:
        schema: Name, arguments and outputs, such as ``'scale(Tensor x, float factor) -> (Tensor y)'``. Arguments are
            ``Tensor``, ``Tensor?`` or plain values; every output is a named ``Tensor``.
        forward: Computes the outputs.
        fake: Gives empty tensors of the outputs' shapes and dtypes, from tensors without data.
        backward: Computes gradients: one for each different value of ``gradients``, in that order, of the shape and
            dtype of the tensor that it names. Those of absent optional tensors are left out.
        saved: Names of the arguments and outputs that the backward needs.
        gradients: For each argument that has a gradient, the saved tensor that this gradient is shaped like: mostly
            the argument itself. It is cast to the argument's dtype.
        results: How many of the outputs can be differentiated, from the first on. The others are only kept for the
            backward.
        naive: Full name of a function that does the same and that autograd can differentiate again.

    Returns:
        The operation.
    """
    name, signature = schema.split('(', 1)
    arguments, outputs = (_parse(part) for part in f'({signature}'.split('->'))
    settings = [argument for argument, kind in arguments.items() if not kind.startswith('Tensor')]
    types = {**outputs, **arguments}
    shapes = list(dict.fromkeys(gradients.values()))
    result_names = list(outputs)[:results]

    backward_arguments = {f'grad_{result}': 'Tensor' for result in result_names}
    backward_arguments.update({key: types[key] for key in (*saved, *settings)})
    backward_schema = ', '.join(f'{kind} {key}' for key, kind in backward_arguments.items())
    unnamed_outputs = ', '.join(outputs.values())

    operation = torch.library.custom_op(
        f'{NAMESPACE}::{name}',
        _by_name(forward, arguments),
        mutates_args=(),
        schema=f'({", ".join(f"{kind} {key}" for key, kind in arguments.items())}) -> ({unnamed_outputs})',
    )
    backward_operation = torch.library.custom_op(
        f'{NAMESPACE}::{name}_backward',
        _by_name(lambda **values: list(backward(**values)), backward_arguments),
        mutates_args=(),
        schema=f'({backward_schema}) -> Tensor[]',
    )

    def backward_fake(**values: Any) -> list[Tensor]:
        return [values[key].new_empty(values[key].shape) for key in shapes if values[key] is not None]

    operation.register_fake(_by_name(fake, arguments))
    backward_operation.register_fake(_by_name(backward_fake, backward_arguments))

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        tensors = output if isinstance(output, tuple) else (output,)
        values = dict(zip((*arguments, *outputs), (*inputs, *tensors), strict=True))
        # Otherwise autograd fills tensors of zeros for the gradients of what is only kept.
        ctx.set_materialize_grads(False)
        if results < len(outputs):
            ctx.mark_non_differentiable(*tensors[results:])
        ctx.save_for_backward(*(values[key] for key in saved))
        ctx.settings = [values[key] for key in settings]
        ctx.dtypes = {key: None if values[key] is None else values[key].dtype for key in gradients}
        ctx.results = [(tensor.shape, tensor.dtype, tensor.device) for tensor in tensors[:results]]

    def differentiate(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        whole = (
            torch.zeros(shape, dtype=dtype, device=device) if grad is None else grad
            for grad, (shape, dtype, device) in zip(grads, ctx.results, strict=False)
        )
        kept = dict(zip(saved, ctx.saved_tensors, strict=True))
        computed = iter(backward_operation(*whole, *kept.values(), *ctx.settings))
        by_shape = {key: next(computed) for key in shapes if kept[key] is not None}
        return tuple(
            by_shape[gradients[key]].to(ctx.dtypes[key]) if ctx.dtypes.get(key) is not None else None
            for key in arguments
        )

    operation.register_autograd(differentiate, setup_context=setup_context)
    backward_operation.register_autograd(_no_second_derivative(name, naive))
    return operation


def _parse(signature: str) -> dict[str, str]:
    """Read ``'(Tensor x, float eps)'`` as types by name."""
    pairs = (part.split() for part in signature.strip().strip('()').split(','))
    return {key: kind for kind, key in pairs}


def _by_name(function: Callable[..., Any], names: Mapping[str, str]) -> Callable[..., Any]:
    """Let a function of keyword arguments be called with positional ones."""
    keys = tuple(names)

    def call(*values: Any) -> Any:
        return function(**dict(zip(keys, values, strict=True)))

    return call


def _no_second_derivative(name: str, naive: str) -> Callable[..., NoReturn]:
    def backward(ctx: Any, *grads: Any) -> NoReturn:
        raise RuntimeError(
            f'the operation {name} has no second derivative: call backward without create_graph, or use {naive}, which '
            'autograd can differentiate again'
        )

    return backward
