"""The scan in C++, vectorised over channels: the library that setup.py builds where there is a compiler.

Tokens are gathered and outputs scattered by order inside the kernel. Every number is computed by one thread alone and
sums are taken in an order that the problem's size fixes, so results do not depend on the number of threads. The
exponential is a polynomial with a relative error below 2e-7 in float32; float64 takes the C library's.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...scan_inputs import ScanGrads, ScanInputs
from ...tokens import empty_like
from .library import BrokenLibraryError, Library, MissingLibraryError, library, load_library

CHUNK = 64
"""Steps of a scan after which a state is kept for the backward; kChunk of csrc."""

TAKES_FACTORS = True

HOW_TO_GET = (
    'install a C++ compiler (Debian, Ubuntu: apt-get install g++; macOS: xcode-select --install) and run '
    '`pip install .` (or `pip install -e .`) in a checkout of mmlocalmamba'
)


def why_not(device_type: str) -> str | None:
    """Say why this back end cannot run on a kind of device; None if it can.

    Raises:
        BrokenLibraryError: If there is a library that does not load, or one of other sources: a slower back end in
            its place would hide that.
    """
    if device_type != 'cpu':
        return 'the C++ scan runs on the CPU only.'
    try:
        library()
    except MissingLibraryError:
        return f'the C++ scan is not built: {HOW_TO_GET}.'
    return None


def states_shape(inputs: ScanInputs) -> tuple[int, ...]:
    """Give the shape of the states kept for the backward: the one before each chunk."""
    directions, channels, d_state = inputs.A.shape
    return (inputs.u.shape[0], directions, -(-inputs.order.shape[1] // CHUNK), d_state, channels)


def _arguments(inputs: ScanInputs) -> dict[str, Any]:
    """Give the inputs by the names that the library knows them by."""
    u, dt, A, B, C, D, dt_bias, order, _, dt_weight, log_A = inputs
    return dict(u=u, dt=dt, A=A, B=B, C=C, D=D, dt_bias=dt_bias, order=order, dt_weight=dt_weight, log_A=log_A)


def forward(inputs: ScanInputs, keep_states: bool) -> tuple[Tensor, Tensor]:
    """Scan; returns y and, if asked to keep them, the states before each chunk."""
    u, A = inputs.u, inputs.A
    y = u.new_empty((u.shape[0], A.shape[0], inputs.map_tokens, u.shape[-1]))
    states = A.new_empty(states_shape(inputs)) if keep_states else None
    library().scan_forward(**_arguments(inputs), y=y, states=states)
    return y, A.new_empty(0) if states is None else states


def backward(grad_y: Tensor, inputs: ScanInputs, states: Tensor) -> ScanGrads:
    """Compute the states again, and run the recurrence backwards."""
    tensors = (getattr(inputs, name) for name in ScanGrads._fields)
    room: list[Any] = [None if x is None else empty_like(x) for x in tensors]
    grads = ScanGrads(*room)
    outputs = {f'grad_{name}': value for name, value in grads._asdict().items()}
    library().scan_backward(**_arguments(inputs), grad_y=grad_y, states=states, **outputs)
    return grads


__all__ = ['BrokenLibraryError', 'Library', 'MissingLibraryError', 'library', 'load_library']
