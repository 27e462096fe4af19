"""Which back end scans fastest, and how the Triton kernels divide their work best: measured, by the kind of scan."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from torch import Tensor

from .backends import interchangeable_backends, load_backend
from .backends.triton.scan_settings import ScanSettings, default_settings, set_rule
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
    inputs.check()

    def run(name: str) -> None:
        from .selective_scan import multiply_out  # which imports this module

        backend = load_backend(name)
        given = inputs if backend.TAKES_FACTORS else multiply_out(inputs)
        y, states = backend.forward(given, keep_states)
        if keep_states:
            backend.backward(y, given, states)

    name = tuned(('back end of the scan', *scan_class(inputs, keep_states)), lambda: names, run, inputs.u)
    return None if name == names[0] else name


@dataclass(frozen=True)
class Variant:
    """A change of the settings that the rule gives a scan, of those of one pass.

    Attributes:
        width: Factor of a program's channels and warps.
        segments: Factor of the number of segments; 0 stands for one segment.
    """

    width: float = 1
    segments: float = 1

    def of(self, default: ScanSettings, backward: bool) -> ScanSettings:
        """Change the settings of a pass; each warp keeps its channels."""
        if backward:
            warps = max(1, int(default.backward_warps * self.width))
            return replace(
                default,
                backward_channels=default.backward_channels * warps // default.backward_warps,
                backward_warps=warps,
                segments_backward=max(1, int(default.segments_backward * self.segments)),
            )
        warps = max(1, int(default.forward_warps * self.width))
        return replace(
            default,
            forward_channels=default.forward_channels * warps // default.forward_warps,
            forward_warps=warps,
            segments=max(1, int(default.segments * self.segments)),
        )


VARIANTS = (Variant(), Variant(width=2), Variant(width=0.5), Variant(segments=2), Variant(segments=0))


class _Current(threading.local):
    """What this thread is doing."""

    backward = False
    tried: Variant | None = None


_current = _Current()


@contextmanager
def scanning_backward() -> Iterator[None]:
    """Let settings be those of a backward."""
    before, _current.backward = _current.backward, True
    try:
        yield
    finally:
        _current.backward = before


def tuned_settings(inputs: ScanInputs) -> ScanSettings:
    """Give the settings for a scan by the Triton kernels: tuned on a GPU, by rule elsewhere."""
    default, backward = default_settings(inputs), _current.backward
    if _current.tried is not None:
        return _current.tried.of(default, backward)
    if inputs.u.device.type != 'cuda':
        return default
    problem = ('backward' if backward else 'forward', 'of the triton scan', *scan_class(inputs, keep_states=True))
    return tuned(problem, lambda: VARIANTS, _Trial(inputs, backward), inputs.u).of(default, backward)


class _Trial:
    """Runs a pass of a scan with the settings of a variant."""

    def __init__(self, inputs: ScanInputs, backward: bool) -> None:
        self.inputs, self.backward = inputs, backward
        self.kept: tuple[Tensor, Tensor] | None = None

    def __call__(self, variant: Variant) -> None:
        triton = load_backend('triton')
        before, _current.tried = _current.tried, variant
        try:
            if not self.backward:
                triton.forward(self.inputs, True)
                return
            if self.kept is None:
                self.kept = triton.forward(self.inputs, True)
            y, states = self.kept
            triton.backward(y, self.inputs, states)
        finally:
            _current.tried = before


set_rule(tuned_settings)
