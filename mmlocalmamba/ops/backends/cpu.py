"""The scan in C++, vectorised over channels: the extension that setup.py builds where there is a compiler.

Tokens are gathered and outputs scattered by order inside the kernel. Every number is computed by one thread alone and
sums are taken in an order that the problem's size fixes, so results do not depend on the number of threads. The
exponential is a polynomial with a relative error below 2e-7 in float32; float64 takes the C library's.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from types import ModuleType

from torch import Tensor

CHUNK = 64
"""Tokens after which a state is kept for the backward; kChunk of csrc/arguments.h."""

RAW_PARAMETERS = True
"""Whether step sizes may come at low rank, with their projection's weight, and A as its logarithm."""

_HOW = (
    'install a C++ compiler (Debian, Ubuntu: apt-get install g++; macOS: xcode-select --install) and run '
    '`pip install -e . --no-build-isolation` in a checkout of mmlocalmamba'
)


@lru_cache(maxsize=1)
def extension() -> ModuleType:
    """Import the C++ extension; ImportError if it was not built, or for another PyTorch."""
    return import_module('mmlocalmamba._C')


def why_not(device_type: str) -> str | None:
    """Say why this back end cannot run on a kind of device; None if it can."""
    if device_type != 'cpu':
        return 'the C++ scan runs on the CPU only.'
    try:
        extension()
    except ModuleNotFoundError:
        return f'the C++ scan (mmlocalmamba._C) is not built: {_HOW}.'
    except ImportError as error:
        return f'the C++ scan was built for another PyTorch ({error}): {_HOW}.'
    return None


def states_shape(u: Tensor, A: Tensor, order: Tensor) -> tuple[int, ...]:
    """Give the shape of the states kept for the backward: the one before each chunk."""
    directions, channels, d_state = A.shape
    return (u.shape[0], directions, -(-order.shape[1] // CHUNK), d_state, channels)


def forward(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    dt_bias: Tensor,
    order: Tensor,
    num_tokens: int,
    keep_states: bool,
    dt_weight: Tensor | None = None,
    log_A: bool = False,
) -> tuple[Tensor, Tensor]:
    """Scan; returns y and, if asked to keep them, the states before each chunk."""
    return extension().scan_forward(u, dt, A, B, C, D, dt_bias, order, num_tokens, keep_states, dt_weight, log_A)


def backward(
    grad_y: Tensor,
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    dt_bias: Tensor,
    order: Tensor,
    states: Tensor,
    num_tokens: int,
    dt_weight: Tensor | None = None,
    log_A: bool = False,
) -> tuple[Tensor, ...]:
    """Compute the states again, and run the recurrence backwards; returns the tensors' gradients, in order."""
    inputs = (u, dt, A, B, C, D, dt_bias, order, states, num_tokens, dt_weight, log_A)
    return tuple(extension().scan_backward(grad_y, *inputs))
