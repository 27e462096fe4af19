"""The scan for exporters to ONNX: gathers, element-wise operations, and one recurrence over all directions' steps.

While a model is exported to ONNX, :func:`mmlocalmamba.ops.local_selective_scan` does as :func:`plain_scan` here, and
all other operations do as their naive forms, so that the graph holds nothing of ours but the recurrence and the orders.
:mod:`mmlocalmamba.export` translates these two.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from mmlocalmamba.directions import inverse_order

from .scan_inputs import ScanInputs

SCAN_FORMS = ('scan', 'chunked')
"""Forms of the recurrence: ONNX's operator ``Scan``, or plain operators on many chunks of the sequence at once."""

CHUNK = 16
"""Steps of a chunk in the chunked form."""

_form = SCAN_FORMS[0]


def is_exporting_to_onnx() -> bool:
    """Tell whether one of PyTorch's two exporters to ONNX is recording."""
    if torch.compiler.is_dynamo_compiling() or not (torch.jit.is_tracing() or torch.compiler.is_compiling()):
        return False
    return torch.onnx.is_in_onnx_export()


@contextmanager
def scan_form(form: str) -> Iterator[None]:
    """Choose the form of the recurrence in models that are exported to ONNX inside this context.

    Args:
        form: One of :data:`SCAN_FORMS`; ``'scan'`` outside of any context.

    Raises:
        ValueError: If there is no such form.
    """
    global _form
    if form not in SCAN_FORMS:
        raise ValueError(f'scan={form!r} is unknown: choose one of {SCAN_FORMS}')
    before, _form = _form, form
    try:
        yield
    finally:
        _form = before


def plain_scan(inputs: ScanInputs) -> Tensor:
    """Scan; see :func:`mmlocalmamba.ops.local_selective_scan`, without ``dt_weight`` and ``log_A``.

    Tokens are brought into scan order, steps first, all directions side by side. What does not depend on the state is
    computed for all steps at once.
    """
    order = inputs.order.t().long()  # (L_scan, K)
    u, dt, B, C = (x.to(inputs.compute_dtype) for x in (inputs.u, inputs.dt, inputs.B, inputs.C))
    if inputs.is_spatial:
        u, dt, B, C = (_in_scan_order(x, order) for x in (u, dt, B, C))
    else:
        u, dt, B, C = (x.permute(1, 2, 0, 3) for x in (u, dt, B, C))
    # From here on: (L_scan, K, Bt, features).
    dt = F.softplus(dt + inputs.dt_bias.unsqueeze(1))
    A = inputs.A.transpose(1, 2).unsqueeze(1)  # (K, 1, N, D)
    factors = (dt.unsqueeze(-2), (dt * u).unsqueeze(-2), A, B.unsqueeze(-1), C.unsqueeze(-2))
    y = recurrence(*factors) if _form == 'scan' else chunked_recurrence(*factors)
    y = y.squeeze(-2) + inputs.D.unsqueeze(1) * u

    steps = inverse_order(inputs.order, inputs.map_tokens).t().long()  # (L, K)
    return y.flatten(0, 1)[_flat(steps)].permute(2, 1, 0, 3).to(inputs.u.dtype)


def _in_scan_order(x: Tensor, order: Tensor) -> Tensor:
    """Gather tokens (Bt, L, F) or (Bt, L, K, F) by an order (L_scan, K): (L_scan, K, Bt, F), zeros for padding."""
    if x.dim() == 3:
        rows, index = x.transpose(0, 1), order
    else:
        rows, index = x.permute(1, 2, 0, 3).flatten(0, 1), _flat(order)
    # One row of zeros behind all tokens is what padding reads.
    return F.pad(rows, (0, 0, 0, 0, 0, 1))[torch.where(order < 0, rows.shape[0], index)]


def _flat(index: Tensor) -> Tensor:
    """Turn rows (..., K) of each direction into rows of all of them, which lie side by side."""
    return index * index.shape[-1] + torch.arange(index.shape[-1], device=index.device)


# PyTorch 2.4 takes the types of a custom op as they are: this file must not postpone their evaluation.
@torch.library.custom_op('mmlocalmamba::recurrence', mutates_args=())
def _recurrence(state: Tensor, dt: Tensor, du: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    outputs = []
    for step_dt, step_du, step_B, step_C in zip(dt, du, B, C, strict=True):
        state = torch.exp(step_dt * A) * state + step_du * step_B
        outputs.append(step_C @ state)
    return torch.stack(outputs)


@_recurrence.register_fake
def _(state: Tensor, dt: Tensor, du: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    return torch.empty_like(dt, memory_format=torch.contiguous_format)


def recurrence(dt: Tensor, du: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Run the recurrence of a scan as one operation, over the first axis; it has no gradient.

    Args:
        dt: Step sizes, (L_scan, K, Bt, 1, D).
        du: Step sizes times inputs, likewise.
        A: Decay rates, negative, (K, 1, N, D).
        B: Input matrix, (L_scan, K, Bt, N, 1).
        C: Output matrix, (L_scan, K, Bt, 1, N).

    Returns:
        (L_scan, K, Bt, 1, D).
    """
    state = torch.zeros_like(du[0] * B[0])
    return _recurrence(state, dt, du, A, B, C)


def chunked_recurrence(dt: Tensor, du: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Run the recurrence of a scan in plain operations; arguments as in :func:`recurrence`.

    The sequence is cut into chunks of :data:`CHUNK` steps, which are scanned side by side: first for the states that
    they end in if they start from zero, then, once these have been carried from chunk to chunk, for the outputs. There
    are only exponentials of negative numbers and products of them, and nothing is divided.
    """
    length = int(dt.shape[0])  # a tensor while a model is traced
    chunk = min(CHUNK, length)
    # Step t of all chunks lies at [:, t]. Behind the end, nothing decays and nothing is added.
    dt, du, B, C = (_cut(x, chunk) for x in (dt, du, B, C))
    decays = [torch.exp(dt[:, t] * A) for t in range(chunk)]
    added = [du[:, t] * B[:, t] for t in range(chunk)]
    state = added[0]
    for t in range(1, chunk):
        state = decays[t] * state + added[t]
    state = _entering(torch.exp(dt.sum(1) * A), state)
    outputs = []
    for t in range(chunk):
        state = decays[t] * state + added[t]
        outputs.append(C[:, t] @ state)
    return torch.stack(outputs, 1).flatten(0, 1)[:length]


def _cut(x: Tensor, chunk: int) -> Tensor:
    """Cut (length, ...) into chunks (chunks, chunk, ...), the last one filled up with zeros."""
    chunks = -(-int(x.shape[0]) // chunk)
    padded = F.pad(x, (0,) * (2 * x.dim() - 1) + (chunks * chunk - int(x.shape[0]),))
    return padded.view(chunks, chunk, *x.shape[1:])  # by sizes: unflatten makes constants of them in a traced model


def _entering(decay: Tensor, added: Tensor) -> Tensor:
    """Give the state before each step of ``h_l = decay_l h_(l - 1) + added_l``, over the first axis, from zero."""
    length = int(decay.shape[0])
    chunk = min(CHUNK, length)
    decay, added = _cut(decay, chunk), _cut(added, chunk)
    state, product = added[:, 0], decay[:, 0]
    if length == chunk:
        state = torch.zeros_like(state)
    else:
        for t in range(1, chunk):
            state, product = decay[:, t] * state + added[:, t], product * decay[:, t]
        state = _entering(product, state)
    before = [state]
    for t in range(chunk - 1):
        before.append(decay[:, t] * before[-1] + added[:, t])
    return torch.stack(before, 1).flatten(0, 1)[:length]
