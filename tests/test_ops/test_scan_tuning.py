"""Settings of the Triton scan from a fake timer, on fake kernels."""

import pytest
import torch

from mmlocalmamba.ops import scan_tuning, tuning
from mmlocalmamba.ops.backends import triton
from mmlocalmamba.ops.backends.triton.scan_settings import ScanSettings, default_settings, settings_for
from mmlocalmamba.ops.scan_tuning import VARIANTS, Variant, scanning_backward, tuned_settings
from mmlocalmamba.ops.tuning import Tuner

from .problems import make_problem


class Like:
    """Says that it is on a GPU."""

    def __init__(self, inputs) -> None:
        self.device, self.dtype, self.shape = torch.device('cuda', 0), inputs.u.dtype, inputs.u.shape

    def dim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]


@pytest.fixture
def inputs(monkeypatch):
    """Inputs that say that they are on a GPU, and kernels that note the settings they are called with."""
    monkeypatch.setenv(tuning.ENVIRONMENT_VARIABLE, '')
    monkeypatch.setattr(tuning, 'cache_folder', lambda: None)
    monkeypatch.setattr(scan_tuning, 'default_settings', lambda inputs: ScanSettings(segments=4, segments_backward=6))
    used = []

    def timer(run, device) -> float:
        used.clear()
        run()
        settings = used[-1]
        return abs(settings.segments - 8) + abs(settings.backward_warps - 2) + 1.0

    tuner = Tuner(timer, lambda device: {}, ('cuda',))
    monkeypatch.setattr(tuner, 'may_time', lambda like: True)
    monkeypatch.setattr(tuning, '_tuner', tuner)
    made = make_problem(2, 3, dtype=torch.float32).inputs
    made = made._replace(u=Like(made))
    monkeypatch.setattr(triton, 'forward', lambda x, keep: (used.append(tuned_settings(x)), (None, None))[1])
    monkeypatch.setattr(triton, 'backward', lambda grad, x, states: used.append(tuned_settings(x)))
    return made


def test_forward_and_backward_are_tuned_apart(inputs) -> None:
    assert tuned_settings(inputs).segments == 8
    assert tuned_settings(inputs).backward_warps == ScanSettings().backward_warps
    with scanning_backward():
        assert tuned_settings(inputs).backward_warps == 2 * ScanSettings().backward_warps
        assert tuned_settings(inputs).segments == 4
    assert scan_tuning._current.tried is None
    assert not scan_tuning._current.backward


def test_elsewhere_the_rule_decides() -> None:
    inputs = make_problem(2, 3, dtype=torch.float32).inputs

    assert settings_for(inputs) == default_settings(inputs)


def test_a_variant_that_fails_leaves_nothing_behind(inputs, monkeypatch) -> None:
    def broken(*_args):
        raise RuntimeError('out of resources')

    monkeypatch.setattr(triton, 'forward', broken)

    assert tuned_settings(inputs) == ScanSettings(segments=4, segments_backward=6)
    assert scan_tuning._current.tried is None


@pytest.mark.parametrize('backward', [False, True])
def test_variants_stay_within_what_kernels_take(backward) -> None:
    for variant in VARIANTS:
        settings = variant.of(ScanSettings(), backward)
        for one in ('forward', 'backward'):
            before, after = (
                getattr(x, f'{one}_channels') / getattr(x, f'{one}_warps') for x in (ScanSettings(), settings)
            )
            assert before == after
        assert min(settings.segments, settings.segments_backward) >= 1
    assert Variant(segments=0).of(ScanSettings(segments=9, segments_backward=9), backward) != ScanSettings(
        segments=9, segments_backward=9
    )
