"""The windowed selective scan as one PyTorch operation (paper equations 1 to 3 and section 4.1)."""

import torch
from torch import Tensor

from .autocast import outside_autocast
from .backends import backend_for, load_backend, takes_raw_parameters
from .derivatives import no_second_derivative


def local_selective_scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    dt_bias: Tensor,
    order: Tensor,
    num_tokens: int | None = None,
    backend: str | None = None,
    dt_weight: Tensor | None = None,
    log_A: bool = False,
) -> Tensor:
    r"""Scan the tokens of a map along K directions, and give each token's outputs at its own place.

    Per direction k, channel d and state n, over the tokens l in scan order::

        dt_l = softplus(dt_l + dt_bias)
        h_l  = exp(dt_l * A) * h_{l-1} + dt_l * B_l * u_l
        y_l  = <C_l, h_l> + D * u_l

    Tokens come in one of two forms. *Spatial* (``u`` has 3 dimensions): row-major order, gathered by ``order`` inside
    the op; padding has ``u = B = C = dt = 0``, so that the state decays over it. *Scan order* (4 dimensions): gathered
    already, each direction with its own ``u``, padding included with the values it carries.

    With ``dt_weight``, step sizes come at low rank, before their projection (paper section 3.2): dt = dt_weight dt.
    With ``log_A``, A comes as the logarithm that models learn: A = -exp(A). The compiled CPU kernels work from these,
    and never store step sizes of every channel; for other back ends both are computed first.

    Any input may be non-contiguous. Inside autocast the scan runs in float32.

    Args:
        u: Input, (Bt, L, D) or (Bt, L_scan, K, D); float32, float64, bfloat16 or float16.
        dt: Step sizes before bias and softplus, (Bt, L or L_scan, K, D), or with ``dt_weight`` (..., K, R); dtype of
            ``u``.
        A: State decay rates, negative, (K, D, N), or ln(-A); float32 (float64 with float64 inputs).
        B: Input matrix, (Bt, L or L_scan, K, N); dtype of ``u``.
        C: Output matrix, (Bt, L or L_scan, K, N); dtype of ``u``.
        D: Skip weights, (K, D); dtype of ``A``.
        dt_bias: Bias of the step sizes, (K, D); dtype of ``A``.
        order: int32 (K, L_scan) from :func:`mmlocalmamba.directions.scan_orders`: token index, or -1 for padding.
        num_tokens: Number of tokens L. Needed in scan order form; taken from ``u`` otherwise.
        backend: Name of a back end, or 'auto'. Default: see :func:`mmlocalmamba.ops.backend_for`.
        dt_weight: Projection of the step sizes, (K, D, R), any of these dtypes. Default: they are not of low rank.
        log_A: Whether ``A`` is ln(-A).

    Returns:
        y, (Bt, K, L, D), dtype of ``u`` (float32 inside autocast).

    Raises:
        ValueError: If shapes or dtypes do not fit together, naming the argument.
        RuntimeError: If the back end that was asked for cannot run.
    """
    if torch.is_autocast_enabled(u.device.type):
        u, dt, B, C = (x.float() if x.dtype in (torch.float16, torch.bfloat16) else x for x in (u, dt, B, C))
    if num_tokens is None:
        if u.dim() == 4:
            raise ValueError(
                'tokens in scan order (u has 4 dimensions) need num_tokens, the number of tokens of the map'
            )
        num_tokens = u.shape[1]
    _check(u, dt, A, B, C, D, dt_bias, order, dt_weight)
    if not takes_raw_parameters(u.device, backend):
        A, log_A = -torch.exp(A) if log_A else A, False
        # Inside autocast, this product is in its dtype.
        dt, dt_weight = dt if dt_weight is None else _expand_steps(dt, dt_weight).to(dt.dtype), None
    inputs = (u, dt, A, B, C, D, dt_bias, dt_weight)
    keep_states = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
    with outside_autocast(u.device.type):
        return _selective_scan(*inputs, order, num_tokens, keep_states, log_A, backend or '')[0]


def _expand_steps(dt: Tensor, dt_weight: Tensor) -> Tensor:
    """Project step sizes of low rank (Bt, L, K, R) by weights (K, D, R); returns (Bt, L, K, D)."""
    batch, length, directions, _ = dt.shape
    low = dt.flatten(0, 1).transpose(0, 1)  # (K, Bt * L, R)
    expanded = torch.bmm(low, dt_weight.to(dt.dtype).transpose(1, 2))
    return expanded.view(directions, batch, length, -1).permute(1, 2, 0, 3)


def _check(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    dt_bias: Tensor,
    order: Tensor,
    dt_weight: Tensor | None,
) -> None:
    if u.dim() not in (3, 4):
        raise ValueError(f'u must be (Bt, L, D) or (Bt, L_scan, K, D), got {tuple(u.shape)}')
    if A.dim() != 3 or order.dim() != 2:
        raise ValueError(f'A must be (K, D, N) and order (K, L_scan), got {tuple(A.shape)} and {tuple(order.shape)}')
    batch, length, channels = u.shape[0], u.shape[1], u.shape[-1]
    directions, _, d_state = A.shape
    wanted = {
        'A': (A, (directions, channels, d_state)),
        'dt': (dt, (batch, length, directions, channels if dt_weight is None else dt_weight.shape[-1])),
        'B': (B, (batch, length, directions, d_state)),
        'C': (C, (batch, length, directions, d_state)),
        'D': (D, (directions, channels)),
        'dt_bias': (dt_bias, (directions, channels)),
        'order': (order, (directions, length if u.dim() == 4 else order.shape[1])),
    }
    if dt_weight is not None:
        wanted['dt_weight'] = (dt_weight, (directions, channels, dt_weight.shape[-1]))
    if u.dim() == 4:
        wanted['u'] = (u, (batch, length, directions, channels))
    for name, (value, shape) in wanted.items():
        if tuple(value.shape) != tuple(shape):
            raise ValueError(
                f'{name} has shape {tuple(value.shape)}, but u {tuple(u.shape)} and A {tuple(A.shape)} want {shape}'
            )
    if order.dtype != torch.int32:
        raise ValueError(f'order must be int32, got {order.dtype}: take it from mmlocalmamba.directions.scan_orders')
    for name, value in {'dt': dt, 'B': B, 'C': C}.items():
        if value.dtype != u.dtype:
            raise ValueError(f'{name} is {value.dtype}, but u is {u.dtype}: give u, dt, B and C one dtype')
    parameters = torch.promote_types(u.dtype, torch.float32)
    for name, value in {'A': A, 'D': D, 'dt_bias': dt_bias}.items():
        if value.dtype != parameters:
            raise ValueError(
                f'{name} is {value.dtype}, want {parameters}: the parameters of the scan are kept in full precision'
            )


# PyTorch 2.4 takes the types of a custom op as they are: this file must not postpone their evaluation.
@torch.library.custom_op('mmlocalmamba::selective_scan', mutates_args=())
def _selective_scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    dt_bias: Tensor,
    dt_weight: Tensor | None,
    order: Tensor,
    num_tokens: int,
    keep_states: bool,
    log_A: bool,
    backend: str,
) -> tuple[Tensor, Tensor]:
    chosen = load_backend(backend_for(u.device, backend))
    raw = _raw_parameters(dt_weight, log_A)
    return chosen.forward(u, dt, A, B, C, D, dt_bias, order, num_tokens, keep_states, *raw)


def _raw_parameters(dt_weight: Tensor | None, log_A: bool) -> tuple[Tensor | None, bool] | tuple[()]:
    """Give the last arguments of a back end: none where there is nothing raw, which few of them take."""
    return () if dt_weight is None and not log_A else (dt_weight, log_A)


@_selective_scan.register_fake
def _(u, dt, A, B, C, D, dt_bias, dt_weight, order, num_tokens, keep_states, log_A, backend):  # type: ignore[no-untyped-def]
    chosen = load_backend(backend_for(u.device, backend))
    states = A.new_empty(chosen.states_shape(u, A, order) if keep_states else (0,))
    return u.new_empty(u.shape[0], order.shape[0], num_tokens, u.shape[-1]), states


@torch.library.custom_op('mmlocalmamba::selective_scan_backward', mutates_args=())
def _selective_scan_backward(
    grad_y: Tensor,
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    dt_bias: Tensor,
    dt_weight: Tensor | None,
    order: Tensor,
    states: Tensor,
    num_tokens: int,
    log_A: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    chosen = load_backend(backend_for(u.device, backend))
    raw = _raw_parameters(dt_weight, log_A)
    grads = chosen.backward(grad_y, u, dt, A, B, C, D, dt_bias, order, states, num_tokens, *raw)
    return (*grads, u.new_empty(0)) if dt_weight is None else grads


@_selective_scan_backward.register_fake
def _(grad_y, u, dt, A, B, C, D, dt_bias, dt_weight, order, states, num_tokens, log_A, backend):  # type: ignore[no-untyped-def]
    grads = tuple(x.new_empty(x.shape) for x in (u, dt, A, B, C, D, dt_bias))
    return *grads, u.new_empty(0) if dt_weight is None else dt_weight.new_empty(dt_weight.shape)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, ctx.num_tokens, _, ctx.log_A, ctx.backend = inputs
    states = output[1]
    ctx.mark_non_differentiable(states)
    ctx.save_for_backward(*tensors, states)


def _backward(ctx, grad_y, _grad_states):  # type: ignore[no-untyped-def]
    *tensors, states = ctx.saved_tensors
    *grads, grad_dt_weight = _selective_scan_backward(grad_y, *tensors, states, ctx.num_tokens, ctx.log_A, ctx.backend)
    return *grads, None if tensors[7] is None else grad_dt_weight, None, None, None, None, None


_selective_scan.register_autograd(_backward, setup_context=_setup_context)
_selective_scan_backward.register_autograd(
    no_second_derivative('the selective scan', 'mmlocalmamba.ops.backends.reference.selective_scan_naive')
)
