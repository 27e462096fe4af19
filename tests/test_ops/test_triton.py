import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmlocalmamba.ops.backends import triton, triton_report

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


@pytest.fixture
def triton_compiler() -> None:
    pytest.importorskip('triton', minversion='3.3')  # older ones are called with other arguments


@pytest.mark.usefixtures('triton_compiler')
@pytest.mark.slow
@pytest.mark.parametrize('capability', [80, 90])
@pytest.mark.parametrize('dtype', ['float32', 'float16', 'bfloat16'])
def test_kernels_compile_for_gpus(capability, dtype) -> None:
    reports = triton_report.compile_report(capability, dtype)

    assert [report.kernel for report in reports] == [name for name, *_ in triton_report.variants(16)]
    for report in reports:
        assert report.capability == capability
        assert 0 < report.registers <= 255
        assert report.shared_bytes <= 4096
        # The widest kernel puts some 40 numbers per lane into local memory; the others none.
        assert report.spill_bytes <= (192 if report.kernel == 'gradients' else 0), report
        # Sums over channels for B and C: two of five steps for each of 16 tokens.
        assert report.exchanges == (160 if report.kernel == 'gradients' else 0), report


@pytest.mark.usefixtures('triton_compiler')
@pytest.mark.slow
def test_kernels_compile_for_other_state_sizes() -> None:
    assert len(triton_report.compile_report(90, 'float32', d_state=5)) == 7


def test_report_is_refused_in_the_interpreter(monkeypatch) -> None:
    monkeypatch.setenv('TRITON_INTERPRET', '1')

    with pytest.raises(RuntimeError, match='unset it, and start again'):
        triton_report.compile_report()


@pytest.mark.parametrize('found', ['3.2.0', '2.3.1+git'])
def test_report_is_refused_by_an_old_triton(found, monkeypatch) -> None:
    monkeypatch.delenv('TRITON_INTERPRET', raising=False)
    monkeypatch.setattr(triton_report, 'version', lambda name: found)

    with pytest.raises(RuntimeError, match=f'wants triton >= 3.3, but {re.escape(found)} is installed'):
        triton_report.compile_report()


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
