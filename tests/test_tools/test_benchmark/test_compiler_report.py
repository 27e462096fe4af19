import re
from importlib.metadata import PackageNotFoundError

import pytest

import compiler_report


@pytest.fixture
def triton_compiler():
    pytest.importorskip('triton', minversion='3.3')  # older ones are called with other arguments


@pytest.mark.usefixtures('triton_compiler')
@pytest.mark.slow
@pytest.mark.parametrize('capability', [80, 90])
@pytest.mark.parametrize('dtype', ['float32', 'float16', 'bfloat16'])
def test_kernels_compile_for_gpus(capability, dtype):
    reports = compiler_report.compile_report(capability, dtype)

    assert [report.kernel for report in reports] == [name for name, *_ in compiler_report.variants(16)]
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
def test_kernels_compile_for_other_state_sizes():
    assert len(compiler_report.compile_report(90, 'float32', d_state=5)) == 7


def test_report_is_refused_in_the_interpreter(monkeypatch):
    monkeypatch.setenv('TRITON_INTERPRET', '1')

    with pytest.raises(RuntimeError, match='unset it, and start again'):
        compiler_report.compile_report()


@pytest.mark.parametrize('found', ['3.2.0', '2.3.1+git'])
def test_report_is_refused_by_an_old_triton(found, monkeypatch):
    monkeypatch.delenv('TRITON_INTERPRET', raising=False)
    monkeypatch.setattr(compiler_report, 'version', lambda name: found)

    with pytest.raises(RuntimeError, match=f'wants triton >= 3.3, but {re.escape(found)} is installed'):
        compiler_report.compile_report()


def test_a_missing_triton_says_how_to_get_it(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.delenv('TRITON_INTERPRET', raising=False)
    monkeypatch.setattr(compiler_report, 'version', missing)
    with pytest.raises(RuntimeError, match='wants triton >= 3.3: pip install triton'):
        compiler_report.compile_report()
