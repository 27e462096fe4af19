import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmlocalmamba.ops.backends import triton

from .problems import make_problem

needs_triton = pytest.mark.skipif(importlib.util.find_spec('triton') is None, reason='triton is not installed')
INTERPRETED = Path(__file__).with_name('triton_interpreted.py')
SCENARIOS = re.findall(r'^def (test_\w+)', INTERPRETED.read_text(encoding='utf-8'), re.MULTILINE)


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize('scenario', SCENARIOS)
def test_kernels_in_the_interpreter(scenario) -> None:
    command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', f'{INTERPRETED}::{scenario}']
    root = INTERPRETED.parents[2]
    result = subprocess.run(
        command, env={**os.environ, 'TRITON_INTERPRET': '1'}, cwd=root, capture_output=True, text=True, timeout=300
    )

    assert result.returncode == 0, result.stdout[-4000:]
    assert '1 passed' in result.stdout


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


def test_more_tokens_than_can_be_addressed_are_refused() -> None:
    inputs = make_problem(1, 1, ('h',), channels=4, d_state=1, dtype=torch.float32).inputs
    rows = 2**29
    tokens = {name: getattr(inputs, name) for name in ('u', 'dt', 'B', 'C')}
    wide = {name: x.expand(1, rows, *x.shape[2:]) for name, x in tokens.items()}
    order = torch.zeros(1, 1, dtype=torch.int32).expand(1, rows)

    with pytest.raises(ValueError, match='more than the triton kernels can address'):
        triton._Launch(inputs._replace(order=order, num_tokens=rows, **wide))


@pytest.mark.parametrize(('length', 'segment'), [(1, 64), (3136, 64), (12544, 128), (65536, 512), (10**6, 512)])
def test_segments_grow_with_the_root_of_the_length(length, segment) -> None:
    assert triton.Blocks().segment_length(length) == segment
