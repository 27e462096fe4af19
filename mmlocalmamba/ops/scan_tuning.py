"""Which back end scans fastest: measured where several can run, by the kind of scan."""

from __future__ import annotations

from .backends import interchangeable_backends, load_backend
from .scan_inputs import ScanInputs
from .tuning import size_class, tuned


def scan_class(inputs: ScanInputs, keep_states: bool) -> tuple[object, ...]:
    """Describe the kind of a scan, as far as its speed depends on it."""
    directions, channels, d_state = inputs.A.shape
    return (
        str(inputs.u.dtype).removeprefix('torch.'),
        'training' if keep_states else 'inference',
        'spatial' if inputs.is_spatial else 'scan order',
        f'K={directions}',
        f'D={channels}',
        f'N={d_state}',
        f'L<={size_class(inputs.order.shape[1])}',
        f'batch<={size_class(len(inputs.u))}',
    )


def fastest_backend(inputs: ScanInputs, keep_states: bool) -> str | None:
    """Choose the back end for a scan; None stands for the device's own.

    Args:
        inputs: What is scanned; in factors or not.
        keep_states: Whether a backward follows, which is then timed too.
    """
    names = interchangeable_backends(inputs.u.device)
    if len(names) == 1:
        return None

    def run(name: str) -> None:
        from .selective_scan import multiply_out  # which imports this module

        backend = load_backend(name)
        given = inputs if backend.TAKES_FACTORS else multiply_out(inputs)
        y, states = backend.forward(given, keep_states)
        if keep_states:
            backend.backward(y, given, states)

    name = tuned(('back end of the scan', *scan_class(inputs, keep_states)), lambda: names, run, inputs.u)
    return None if name == names[0] else name
