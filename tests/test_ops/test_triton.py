import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmlocalmamba.ops.backends import triton

from .problems import make_problem

needs_triton = pytest.mark.skipif(importlib.util.find_spec('triton') is None, reason='triton is not installed')
INTERPRETED = Path(__file__).with_name('triton_interpreted.py')


@needs_triton
@pytest.mark.slow
def test_kernels_in_the_interpreter() -> None:
    command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', str(INTERPRETED)]
    environment = {**os.environ, 'TRITON_INTERPRET': '1'}
    root = INTERPRETED.parents[2]
    result = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=900)

    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]


def test_cpu_cannot_run_it(monkeypatch) -> None:
    monkeypatch.delenv('TRITON_INTERPRET', raising=False)

    assert 'run on CUDA devices' in triton.why_not('cpu')


def test_missing_triton_says_how_to_get_it(monkeypatch) -> None:
    monkeypatch.setattr(triton, 'find_spec', lambda name: None)

    assert 'pip install triton' in triton.why_not('cuda')


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a CUDA device')
@needs_triton
def test_missing_device_is_named() -> None:
    assert 'no CUDA device' in triton.why_not('cuda')


@needs_triton
def test_old_gpu_is_named(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda: (6, 1))

    assert 'compute capability (6, 1)' in triton.why_not('cuda')


@pytest.mark.parametrize('changes', [{}, {'spatial': False}])
def test_more_tokens_than_can_be_addressed_are_refused(changes) -> None:
    inputs = make_problem(1, 1, ('h',), channels=4, d_state=1, dtype=torch.float32, **changes).inputs
    rows = 2**29
    tokens = {name: getattr(inputs, name) for name in ('u', 'dt', 'B', 'C')}
    wide = {name: x.expand(1, rows, *x.shape[2:]) for name, x in tokens.items()}
    order = torch.zeros(1, 1, dtype=torch.int32).expand(1, rows)

    with pytest.raises(ValueError, match='more than the triton kernels can address'):
        triton.forward(inputs._replace(order=order, num_tokens=rows, **wide), False)


def test_strides_too_wide_to_be_addressed_are_refused() -> None:
    inputs = make_problem(1, 3, ('h',), channels=4, d_state=1, dtype=torch.float32).inputs
    far = torch.empty(1, device='meta').as_strided((1, 3, 4), (0, 2**30, 1))

    with pytest.raises(ValueError, match='u has a stride of 1073741824 .* call contiguous'):
        triton._check_addresses(inputs._replace(u=far))


@pytest.mark.parametrize(
    ('batch', 'length', 'segments'),
    [(128, 3136, 1), (1, 16384, 36), (1, 3136, 24), (1, 196, 1), (2, 64000, 18), (0, 49, 1)],
)
def test_scans_are_cut_only_where_they_are_few(batch, length, segments) -> None:
    """96 channels in 4 directions are 24 warps of the forward kernel, and 108 multiprocessors want 8 warps each."""
    shape = torch.empty(batch, length, 96, device='meta')
    inputs = make_problem(1, 1, ('h',)).inputs._replace(
        u=shape, A=torch.empty(4, 96, 16), order=torch.empty(4, length, dtype=torch.int32)
    )

    assert triton.default_settings(inputs).segments == segments


@pytest.mark.parametrize(('blocks', 'works', 'group'), [(12, 6144, 6), (12, 24, 1), (7, 700, 1), (1, 4, 1)])
def test_programs_take_as_many_blocks_as_leave_work_for_all(blocks, works, group) -> None:
    assert triton.largest_group(blocks, works, 864) == group


def test_another_rule_can_choose_the_settings() -> None:
    chosen = triton.ScanSettings(tile=32)
    inputs = make_problem(1, 1, ('h',)).inputs
    triton.set_rule(lambda inputs: chosen)
    try:
        assert triton.settings_for(inputs) is chosen
    finally:
        triton.set_rule(None)
    assert triton.settings_for(inputs) == triton.default_settings(inputs)
