from dataclasses import dataclass

import pytest
import torch

from mmlocalmamba.ops import fused_tuning, tuning
from mmlocalmamba.ops.fused_tuning import VARIANTS, Variant, run_tuned, tunes
from mmlocalmamba.ops.tuning import Tuner

launch = pytest.importorskip('mmlocalmamba.ops.backends.triton.launch')


@dataclass(frozen=True)
class Settings:
    warps: int = 4
    vector: int = 16


@pytest.fixture
def operation(monkeypatch):
    """An operation that reports the settings it gets, fastest with eight warps."""
    monkeypatch.setenv(tuning.ENVIRONMENT_VARIABLE, '')
    monkeypatch.setattr(tuning, 'cache_folder', lambda: None)
    monkeypatch.setattr(tuning, '_tuner', Tuner(lambda run, device: abs(run().warps - 8) + 1.0, lambda d: {}, ('cpu',)))
    yield lambda x: launch.tuned('an_operation', Settings(), *x.shape)
    launch.set_tuner('an_operation', None)


def test_the_fastest_variant_is_used(operation) -> None:
    x = torch.zeros(2, 3, 4)

    assert operation(x) == Settings()
    assert run_tuned('an_operation', 'forward', operation, {'x': x}) == Settings(warps=8)
    assert fused_tuning._current.variant == Variant()
    assert operation(x) == Settings()  # outside of a tuned call


def test_an_error_leaves_the_defaults_behind(operation) -> None:
    def broken(x):
        raise RuntimeError('no memory')

    with pytest.raises(RuntimeError, match='no memory'):
        run_tuned('an_operation', 'forward', broken, {'x': torch.zeros(2, 3)})
    assert fused_tuning._current.variant == Variant()


def test_variants_change_what_there_is() -> None:
    assert Variant(('warps',), 0.5).of(Settings(warps=1)) == Settings(warps=1)
    assert Variant(('elements', 'vector'), 2).of(Settings()) == Settings(vector=32)
    assert Variant(('elements',), 2).of(Settings()) == Settings()
    assert len({str(variant) for variant in VARIANTS}) == len(VARIANTS)
    assert str(VARIANTS[0]) == 'default'


def test_only_triton_on_a_gpu_is_tuned() -> None:
    assert tunes('triton', torch.device('cuda', 0))
    assert not tunes('triton', torch.device('cpu'))
    assert not tunes('cpu', torch.device('cpu'))
