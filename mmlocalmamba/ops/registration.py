"""Registering an operation with PyTorch: its forward and its backward are one node each, to autograd and compilers.

A call of a registered operation takes tens of microseconds, on its way through the dispatcher and back to Python, and
three times as long where autograd takes part: as much as a small scan. So plain calls, which nobody but autograd is to
see, go to the implementation directly. Everything else goes to the registered operation: compilers and exporters, modes
that watch operations, profilers, tensors that are no plain ones. Both compute the same by the same functions.

The transforms of ``torch.func`` take it too: ``grad``, ``vjp``, ``jacrev`` and ``vmap`` give what they should, the last
two by one call per sample. There are neither forward-mode derivatives nor second ones: both are errors that name a
function to use in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, Protocol

import torch
from torch import Tensor
from torch.autograd import forward_ad

NAMESPACE = 'mmlocalmamba'

_LIBRARY = torch.library.Library(NAMESPACE, 'FRAGMENT')


class Kernels(Protocol):
    """What computes an operation, by keyword arguments."""

    @property
    def forward(self) -> Callable[..., Any]:
        """Takes the arguments of the operation."""

    @property
    def backward(self) -> Callable[..., Sequence[Tensor]]:
        """Takes those of its backward."""


class _Registered(NamedTuple):
    """What an operation was registered with."""

    forward: Callable[..., Any]
    backward: Callable[..., Sequence[Tensor]]


class Operation(Protocol):
    """A registered operation."""

    def __call__(self, *arguments: Any, kernels: Kernels | None = None) -> Any:
        """Compute it.

        Args:
            arguments: In the order of its schema. The first is a tensor.
            kernels: What to compute it with where it is called directly: that which its registered functions would
                find, if the caller has found it already. Default: these functions.
        """


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
        _checked(_by_name(forward, arguments), name, naive, arguments),
        mutates_args=(),
        schema=f'({", ".join(f"{kind} {key}" for key, kind in arguments.items())}) -> ({unnamed_outputs})',
    )
    differentiate_directly = _by_name(lambda **values: list(backward(**values)), backward_arguments)
    backward_operation = torch.library.custom_op(
        f'{NAMESPACE}::{name}_backward',
        _checked(differentiate_directly, f'{name}_backward', naive, backward_arguments),
        mutates_args=(),
        schema=f'({backward_schema}) -> Tensor[]',
    )

    def backward_fake(**values: Any) -> list[Tensor]:
        return [values[key].new_empty(values[key].shape) for key in shapes if values[key] is not None]

    operation.register_fake(_checked(_by_name(fake, arguments), name, naive, arguments))
    fake_gradients = _by_name(backward_fake, backward_arguments)
    backward_operation.register_fake(_checked(fake_gradients, f'{name}_backward', naive, backward_arguments))

    registered = _Registered(forward, backward)
    # These run for every operation of every training step: names are turned into places once, here.
    places = {key: place for place, key in enumerate((*arguments, *outputs))}
    saved_places = [places[key] for key in saved]
    setting_places = [places[key] for key in settings]
    shape_places = [saved.index(key) for key in shapes]
    # For each argument, which of the computed gradients is its own: None for an argument without one.
    gradient_places = [shapes.index(gradients[key]) if key in gradients else None for key in arguments]

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        tensors = output if isinstance(output, tuple) else (output,)
        values = (*inputs, *tensors)
        # Otherwise autograd fills tensors of zeros for the gradients of what is only kept.
        ctx.set_materialize_grads(False)
        if results < len(tensors):
            ctx.mark_non_differentiable(*tensors[results:])
        ctx.save_for_backward(*[values[place] for place in saved_places])
        ctx.settings = [values[place] for place in setting_places]
        ctx.dtypes = [value.dtype if isinstance(value, Tensor) else None for value in inputs]
        if results > 1:  # a single result has a gradient, or there is no backward
            ctx.results = [(tensor.shape, tensor.dtype, tensor.device) for tensor in tensors[:results]]

    def differentiate(ctx: Any, kernels: Kernels, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if results > 1:
            grads = tuple(
                torch.zeros(shape, dtype=dtype, device=device) if grad is None else grad
                for grad, (shape, dtype, device) in zip(grads, ctx.results, strict=False)
            )
        kept = ctx.saved_tensors
        # With gradients enabled, somebody wants a second derivative: the registered operation refuses that.
        if torch.is_grad_enabled() or not _is_plain(kept[0]):
            computed = backward_operation(*grads[:results], *kept, *ctx.settings)
        else:
            values = (*grads[:results], *kept, *ctx.settings)
            computed = kernels.backward(**dict(zip(backward_arguments, values, strict=True)))
        if len(computed) < len(shapes):  # those of absent tensors are left out
            present = iter(computed)
            computed = [None if kept[place] is None else next(present) for place in shape_places]
        return tuple(
            [
                None if place is None or dtype is None else computed[place].to(dtype)
                for place, dtype in zip(gradient_places, ctx.dtypes, strict=True)
            ]
        )

    def differentiate_registered(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        return differentiate(ctx, registered, *grads)

    no_second_derivative = _no_second_derivative(name, naive)
    operation.register_autograd(differentiate_registered, setup_context=setup_context)
    backward_operation.register_autograd(no_second_derivative)
    _register_transforms(name, operation, setup_context, differentiate_registered, naive)
    _register_transforms(f'{name}_backward', backward_operation, _keep_nothing, no_second_derivative, naive)
    run_registered = _without_tangents(operation, name, naive)

    class Direct(torch.autograd.Function):
        """The operation without the dispatcher."""

        @staticmethod
        def forward(ctx: Any, kernels: Kernels, *inputs: Any) -> Any:
            output = kernels.forward(**dict(zip(arguments, inputs, strict=True)))
            setup_context(ctx, inputs, output)
            ctx.kernels = kernels
            return output

        @staticmethod
        def backward(ctx: Any, *grads: Tensor | None) -> Any:
            return (None, *differentiate(ctx, ctx.kernels, *grads))

    Direct.__name__ = f'{NAMESPACE}_{name}'

    def run(*inputs: Any, kernels: Kernels | None = None) -> Any:
        if not _is_plain(inputs[0]):
            return run_registered(*inputs)
        kernels = registered if kernels is None else kernels
        if torch.is_grad_enabled():
            return Direct.apply(kernels, *inputs)
        return kernels.forward(**dict(zip(arguments, inputs, strict=True)))

    return run


def _is_plain(tensor: Tensor) -> bool:
    """Tell whether nobody but autograd is to see an operation on this tensor."""
    return not (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack()
        or torch.jit.is_tracing()
        or torch.autograd._profiler_enabled()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or type(tensor) not in (Tensor, torch.nn.Parameter)
        or tensor.is_meta
    )


def _parse(signature: str) -> dict[str, str]:
    """Read ``'(Tensor x, float eps)'`` as types by name."""
    pairs = (part.split() for part in signature.strip().strip('()').split(','))
    return {key: kind for kind, key in pairs}


def _by_name(function: Callable[..., Any], names: Mapping[str, str]) -> Callable[..., Any]:
    """Let a function of keyword arguments be called with positional ones."""
    keys = tuple(names)

    def call(*values: Any) -> Any:
        return function(**dict(zip(keys, values)))  # noqa: B905 (the dispatcher has counted them)

    return call


def _keep_nothing(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    pass


def _register_transforms(
    name: str,
    operation: Callable[..., Any],
    setup_context: Callable[..., None],
    backward: Callable[..., Any],
    naive: str,
) -> None:
    """Let the transforms of torch.func differentiate a registered operation, and map it over samples.

    PyTorch's own registration refuses to differentiate it there, and gives forward-mode derivatives of zero.
    """

    class Transformed(torch.autograd.Function):
        @staticmethod
        def forward(*inputs: Any) -> Any:
            result = operation(*inputs)
            return tuple(result) if isinstance(result, list) else result  # autograd does not look into lists

        @staticmethod
        def jvp(ctx: Any, *tangents: Any) -> NoReturn:
            raise _no_forward_mode(name, naive)

        @staticmethod
        def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> Any:
            """Call it for one sample after the other."""
            places = list(zip(inputs, in_dims, strict=True))
            calls = [
                operation(*[x if dim is None else x.select(dim, i) for x, dim in places])
                for i in range(info.batch_size)
            ]
            if isinstance(calls[0], Tensor):
                return torch.stack(calls), 0
            outputs = tuple(torch.stack(samples) for samples in zip(*calls, strict=True))
            return outputs, (0,) * len(outputs)

    Transformed.setup_context = staticmethod(setup_context)  # type: ignore[method-assign]
    Transformed.backward = staticmethod(backward)  # type: ignore[method-assign]
    Transformed.__name__ = f'{NAMESPACE}_{name}_transformed'

    def transform(*inputs: Any) -> Any:
        result = Transformed.apply(*inputs)
        return list(result) if gives_list and isinstance(result, tuple) else result

    gives_list = name.endswith('_backward')
    _LIBRARY.impl(name, transform, 'FuncTorchDynamicLayerFrontMode')


def _without_tangents(function: Callable[..., Any], name: str, naive: str) -> Callable[..., Any]:
    """Refuse tensors with tangents, whose derivatives nobody would compute."""

    def call(*values: Any) -> Any:
        if torch.compiler.is_compiling():
            return function(*values)
        if forward_ad._current_level >= 0 and any(
            isinstance(x, Tensor) and forward_ad.unpack_dual(x).tangent is not None for x in values
        ):
            raise _no_forward_mode(name, naive)
        return function(*values)

    return call


def _checked(function: Callable[..., Any], name: str, naive: str, arguments: Mapping[str, str]) -> Callable[..., Any]:
    """Refuse what PyTorch lets through to a registered operation, and the public functions have not looked at."""
    checked = _without_tangents(function, name, naive)

    def call(*values: Any) -> Any:
        try:
            return checked(*values)
        except (AttributeError, IndexError) as error:
            given = dict(zip(arguments, values, strict=True))
            for key, kind in arguments.items():
                if kind == 'Tensor' and not isinstance(given[key], Tensor):
                    raise TypeError(f'{name}: {key} must be a tensor, got {type(given[key]).__name__}') from None
            shapes = ', '.join(f'{key} {tuple(x.shape)}' for key, x in given.items() if isinstance(x, Tensor))
            raise ValueError(f'{name} cannot work with tensors of these shapes: {shapes} ({error})') from error

    return call


def _no_forward_mode(name: str, naive: str) -> RuntimeError:
    return RuntimeError(
        f'the operation {name} has no forward-mode derivative (jvp, jacfwd, dual tensors): use reverse mode (backward, '
        f'vjp, jacrev), or {naive}, which both modes of autograd can differentiate'
    )


def _no_second_derivative(name: str, naive: str) -> Callable[..., NoReturn]:
    def backward(ctx: Any, *grads: Any) -> NoReturn:
        raise RuntimeError(
            f'the operation {name} has no second derivative: call backward without create_graph, or use {naive}, which '
            'autograd can differentiate again'
        )

    return backward
