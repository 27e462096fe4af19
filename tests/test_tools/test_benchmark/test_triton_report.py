import pytest

import compiler_report
from compiler_report import KernelReport


@pytest.fixture
def report(tool, monkeypatch):
    """The tool, with a compiler that takes no time."""
    module = tool('benchmark/triton_report')
    monkeypatch.setattr(module, 'check_compiler', lambda: None)
    monkeypatch.setattr(
        module,
        'compile_report',
        lambda capability, dtype, d_state, rank: [KernelReport(f'scan {dtype}', capability, 80, 4, 2, 1.0, d_state)],
    )
    monkeypatch.setattr(
        module, 'fused_report', lambda capability, dtype: [KernelReport(f'merge {dtype}', capability, 40, 0, 8, 0, 9)]
    )
    return module


def test_there_are_two_tables_per_gpu(report, capsys):
    report.main([])
    first, around, second, _ = capsys.readouterr().out.strip().split('\n\n')
    assert around.startswith('around the scan, sm_80: float32; ')
    assert around.splitlines()[-1].split() == ['merge', 'float32', '40', '0', '8', '0', '9']
    assert first.splitlines()[0] == 'compiled for sm_80: float32, N = 16, R = 12'
    assert second.splitlines()[0] == 'compiled for sm_90: float32, N = 16, R = 12'
    assert first.splitlines()[-1].split() == ['scan', 'float32', '80', '4', '2', '1', '16']


def test_what_is_compiled_can_be_chosen(report, capsys):
    report.main(['--capability', '75', '--dtype', 'bfloat16', '--d-state', '4'])
    text = capsys.readouterr().out
    assert text.startswith('compiled for sm_75: bfloat16, N = 4')
    assert 'scan bfloat16' in text


def test_no_states_are_refused(report, capsys):
    with pytest.raises(SystemExit):
        report.main(['--d-state', '0'])
    assert '--d-state wants a positive number, got 0' in capsys.readouterr().err


def test_without_a_compiler_it_says_why(tool, monkeypatch, capsys):
    monkeypatch.delenv('TRITON_INTERPRET', raising=False)
    monkeypatch.setattr(compiler_report, 'version', lambda name: '3.0.0')
    with pytest.raises(SystemExit):
        tool('benchmark/triton_report').main([])
    assert 'wants triton >= 3.3, but 3.0.0 is installed' in capsys.readouterr().err
