"""The windowed selective scan as one PyTorch operation (paper equations 1 to 3 and section 4.1)."""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .autocast import in_autocast, outside_autocast
from .backends import backend_for, load_backend, takes_factors
from .plain_scan import is_exporting_to_onnx, plain_scan
from .registration import register_operation
from .scan_inputs import ScanInputs, check_kept_states
from .scan_tuning import fastest_backend, scanning_backward
from .tokens import check_tensors

LARGEST_LOG = {torch.float32: 88.0, torch.float64: 708.0}
"""ln(-A) beyond which A would be infinite, and NaN times a step of 0. Nothing is left of a state either way."""


def local_selective_scan(inputs: ScanInputs, backend: str | None = None) -> Tensor:
    r"""Scan the tokens of a map along K directions, and give each token's outputs at its own place.

    Per direction k, channel d and state n, over the steps l of the scan::

        dt_l = softplus(dt_l + dt_bias)
        h_l  = exp(dt_l * A) * h_{l-1} + dt_l * B_l * u_l
        y_l  = <C_l, h_l> + D * u_l

    In the spatial form, padding has ``u = B = C = dt = 0`` before the bias is added, so that the state decays over it.
    In scan order it takes part with the values that it is given.

    With ``dt_weight`` the step sizes are given before their projection: dt = dt_weight dt (paper section 3.2). With
    ``log_A`` the decay rates are given as models learn them: A = -exp(A). The compiled CPU kernels work from both and
    never store the step sizes of every channel. For other back ends they are computed first.

    Any input may be non-contiguous. States and sums are float32, whatever the tokens are (float64 for float64 tokens).
    Inside autocast, tokens that are not in autocast's dtype go to it, so that nothing of the size of the scan is
    float32; parameters stay float32.

    Args:
        inputs: Tokens and parameters.
        backend: Name of a back end, or ``'auto'``. Default: see :func:`mmlocalmamba.ops.backend_for`.

    Returns:
        y, (Bt, K, L, D), dtype of ``u`` (that of autocast inside autocast, unless ``u`` is float64).

    Raises:
        ValueError: If shapes, dtypes or devices do not fit together. The message names the argument.
        RuntimeError: If the back end that was asked for cannot run.

    Example:
        >>> from mmlocalmamba.directions import scan_orders
        >>> tokens, channels, states, order = 6, 4, 2, scan_orders(('h', 'v_flip'), 2, 3)
        >>> y = local_selective_scan(
        ...     ScanInputs(
        ...         u=torch.ones(1, tokens, channels),
        ...         dt=torch.zeros(1, tokens, 2, channels),
        ...         A=-torch.ones(2, channels, states),
        ...         B=torch.ones(1, tokens, 2, states),
        ...         C=torch.ones(1, tokens, 2, states),
        ...         D=torch.zeros(2, channels),
        ...         dt_bias=torch.zeros(2, channels),
        ...         order=order,
        ...     )
        ... )
        >>> y.shape
        torch.Size([1, 2, 6, 4])
    """
    try:
        return _scan(inputs, backend)
    except AttributeError:
        optional = {} if inputs.dt_weight is None else dict(dt_weight=inputs.dt_weight)
        check_tensors(**{name: getattr(inputs, name) for name in ScanInputs._fields[:8]}, **optional)
        raise


def _scan(inputs: ScanInputs, backend: str | None) -> Tensor:
    if in_autocast(inputs.u.device.type):
        inputs = _in_autocast(inputs)
    if inputs.num_tokens is None or not torch.compiler.is_compiling():  # else the operation's fake checks them
        inputs.check()
    if inputs.num_tokens is None:
        inputs = inputs._replace(num_tokens=inputs.map_tokens)
    if is_exporting_to_onnx():
        return plain_scan(multiply_out(inputs))
    keep_states = torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in inputs)
    kernels = None
    if torch.compiler.is_compiling():  # the registered operation finds its kernels
        in_factors = takes_factors(inputs.u.device, backend)
    else:
        backend = backend or fastest_backend(inputs, keep_states)
        kernels = _ScanKernels(load_backend(backend_for(inputs.u.device, backend)))
        in_factors = kernels.module.TAKES_FACTORS
    if not in_factors:
        inputs = multiply_out(inputs)
    with outside_autocast(inputs.u.device.type):
        return _selective_scan(*inputs, keep_states, backend or '', kernels=kernels)[0]


def multiply_out(inputs: ScanInputs) -> ScanInputs:
    """Replace what is given in factors: step sizes of low rank by those of every channel, and ln(-A) by A."""
    A, dt, dt_weight = inputs.A, inputs.dt, inputs.dt_weight
    if inputs.log_A:
        A = -torch.exp(A.clamp(max=LARGEST_LOG[A.dtype]))
    if dt_weight is not None:
        batch, rows, directions, _ = dt.shape
        low_rank = dt.flatten(0, 1).transpose(0, 1)  # (K, Bt * rows, R)
        # Inside autocast, this product is in autocast's dtype.
        product = torch.bmm(low_rank, dt_weight.to(dt.dtype).transpose(1, 2)).to(dt.dtype)
        dt = product.view(directions, batch, rows, inputs.D.shape[1]).permute(1, 2, 0, 3)
    return inputs._replace(A=A, dt=dt, dt_weight=None, log_A=False)


def _in_autocast(inputs: ScanInputs) -> ScanInputs:
    """Bring tokens into autocast's dtype, as it does for products of matrices; float64 stays, which it leaves alone."""
    dtype = torch.get_autocast_dtype(inputs.u.device.type)
    tokens = {name: getattr(inputs, name) for name in ('u', 'dt', 'B', 'C')}
    if any(x.dtype == torch.float64 for x in tokens.values()):
        return inputs
    return inputs._replace(**{name: x.to(dtype) for name, x in tokens.items()})


class _ScanKernels(NamedTuple):
    """A back end's scan as what computes the operation, the forward from inputs that have been checked."""

    module: ModuleType

    def forward(self, keep_states: bool, backend: str, **values: Any) -> tuple[Tensor, Tensor]:
        """Compute y and the states that are kept."""
        return self.module.forward(ScanInputs(**values), keep_states)

    def backward(self, grad_y: Tensor, states: Tensor, keep_states: bool, backend: str, **values: Any) -> list[Tensor]:
        """Compute the gradients of those tensors that there are."""
        inputs = ScanInputs(**values)
        inputs.check()  # what is saved may have been given other data since the forward
        check_kept_states(states, tuple(self.module.states_shape(inputs)), grad_y, inputs)
        with scanning_backward():
            return [grad for grad in self.module.backward(grad_y, inputs, states) if grad is not None]


def _checked(backend: str, inputs: ScanInputs) -> _ScanKernels:
    """Find the back end that an operation names, and check that it can work from these inputs."""
    name = backend_for(inputs.u.device, backend)
    kernels = _ScanKernels(load_backend(name))
    inputs.check()
    if (inputs.dt_weight is not None or inputs.log_A) and not kernels.module.TAKES_FACTORS:
        raise ValueError(
            f'the back end {name!r} takes neither dt_weight nor log_A: call mmlocalmamba.ops.local_selective_scan, '
            'which computes dt and A first'
        )
    return kernels


def _forward(keep_states: bool, backend: str, **values: Any) -> tuple[Tensor, Tensor]:
    return _checked(backend, ScanInputs(**values)).forward(keep_states, backend, **values)


def _fake(keep_states: bool, backend: str, **values: Any) -> tuple[Tensor, Tensor]:
    inputs = ScanInputs(**values)
    inputs.check()
    chosen = load_backend(backend_for(inputs.u.device, backend))
    u, order = inputs.u, inputs.order
    states = inputs.A.new_empty(chosen.states_shape(inputs) if keep_states else (0,))
    return u.new_empty(u.shape[0], order.shape[0], inputs.map_tokens, u.shape[-1]), states


def _backward(grad_y: Tensor, states: Tensor, keep_states: bool, backend: str, **values: Any) -> list[Tensor]:
    kernels = _checked(backend, ScanInputs(**values))
    return kernels.backward(grad_y, states, keep_states, backend, **values)


_TENSORS = ('u', 'dt', 'A', 'B', 'C', 'D', 'dt_bias', 'dt_weight')

_selective_scan = register_operation(
    'selective_scan(Tensor u, Tensor dt, Tensor A, Tensor B, Tensor C, Tensor D, Tensor dt_bias, Tensor order, '
    'SymInt num_tokens, Tensor? dt_weight, bool log_A, bool keep_states, str backend) -> (Tensor y, Tensor states)',
    forward=_forward,
    fake=_fake,
    backward=_backward,
    saved=(*_TENSORS, 'order', 'states'),
    gradients={name: name for name in _TENSORS},
    naive='mmlocalmamba.ops.backends.reference.selective_scan_naive',
)
