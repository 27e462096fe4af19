import re
from importlib.metadata import PackageNotFoundError

import pytest

import compiler_report


@pytest.fixture
def triton_compiler():
    pytest.importorskip('triton', minversion='3.3')  # older ones are called with other arguments


@pytest.mark.usefixtures('triton_compiler')
@pytest.mark.slow
@pytest.mark.parametrize('capability', [80, 90, 100])
@pytest.mark.parametrize('dtype', ['float32', 'float16', 'bfloat16'])
@pytest.mark.parametrize('rank', [0, 12])
def test_kernels_compile_for_gpus_and_spill_nothing(capability, dtype, rank):
    reports = compiler_report.compile_report(capability, dtype, rank=rank)

    assert [report.kernel for report in reports] == [
        'forward',
        'forward: segments',
        'backward',
        'backward: segments',
    ]
    for report in reports:
        assert report.capability == capability
        assert 0 < report.registers <= 255
        # Here the compiler puts one address into memory, outside the loop over tokens, to fit in more warps.
        one_address = (report.kernel, capability, rank) == ('forward: segments', 90, 0) and dtype != 'float32'
        assert report.spill_bytes == (8 if one_address else 0), report
        assert report.shared_bytes <= 4096
    # One exponential per token, channel and state in each walk; the backward walks forwards first.
    assert [report.exponentials for report in reports] == [1, 1, 2, 1]
    # Half-precision step sizes of every channel get a layout with longer sums over channels.
    long_sums = rank == 0 and dtype != 'float32'
    assert [report.exchanges for report in reports] == [8, 0, 140 if long_sums else 72, 4]


@pytest.mark.usefixtures('triton_compiler')
@pytest.mark.slow
def test_kernels_compile_for_other_sizes():
    """Widths that are no powers of two, a wide projection, and tokens in scan order."""
    for report in compiler_report.compile_report(90, 'bfloat16', d_state=5, rank=48, spatial=False):
        assert report.registers <= 255


def test_loops_are_cut_out_of_a_kernel():
    ptx = '\n'.join(['$L1:', 'a', '$L2:', 'ex2', '@%p1 bra $L2;', '$L3:', 'b', '@%p2 bra $L3;', 'bra.uni $L1;', 'c'])

    assert compiler_report._innermost_loops(ptx) == ['$L2:\nex2', '$L3:\nb']


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
