from importlib.metadata import PackageNotFoundError

import pytest
import torch

from mmlocalmamba.analysis import benchmark_scan
from mmlocalmamba.analysis.benchmark import Setup, UnavailableError
from mmlocalmamba.analysis.benchmark_scan import Rates, backends, bound, cpu_rates, gpu_rates, scan, triton
from mmlocalmamba.analysis.roofline import GPUS
from mmlocalmamba.models import LocalVMamba
from mmlocalmamba.ops import available_backends
from mmlocalmamba.ops.backends import cpu, triton_report
from mmlocalmamba.ops.backends.triton_report import KernelReport

SMALL = Setup(threads=1, runs=1, small=True)
RUNNABLE = [name for name, reason in available_backends('cpu').items() if reason is None]


@pytest.fixture
def small_models_in_full_size(monkeypatch):
    """The published sizes' names and bounds, on small models and images."""
    monkeypatch.setattr(benchmark_scan, 'LocalVMamba', lambda arch: LocalVMamba('micro'))
    monkeypatch.setattr(benchmark_scan, 'swin', lambda setup, side: torch.nn.Identity())
    monkeypatch.setattr(benchmark_scan, 'side_of', lambda setup: 32)


def test_all_scans_of_a_model_are_measured_against_one_forward():
    result = scan(SMALL)
    (row,) = result.comparisons
    assert (row.name, row.base) == ("the scans of LocalVMamba-micro's 5 layers", 'Swin-micro')
    (table,) = result.tables
    assert [(r['L'], r['D'], r['layers']) for r in table.rows] == [
        (256, 64, 1),
        (64, 128, 1),
        (16, 256, 2),
        (4, 512, 1),
    ]


def test_the_scans_bound_stands_beside_the_ratio(small_models_in_full_size):
    (row,) = scan(Setup(threads=1, runs=1)).comparisons
    assert (row.wanted, row.aim) == (0.44, 0.3)


def test_back_ends_that_can_run_are_measured_against_each_other():
    result = backends(SMALL)
    pairs = {(row.name, row.base) for row in result.comparisons}
    for what in ('forward', 'forward + backward'):
        for name in RUNNABLE[:-1]:
            assert (f'{name} {what}', f'reference {what}') in pairs
        assert (f'chunked {what}', f'chunked {what}') not in pairs
    assert len(pairs) == len(result.comparisons)
    assert [note.split(': ')[1] for note in result.notes] == [
        name for name in available_backends('cpu') if name not in RUNNABLE
    ]


def test_the_fallback_is_wanted_to_be_faster_than_the_loop(small_models_in_full_size):
    rows = backends(Setup(threads=1, runs=1)).comparisons
    assert {row.name: row.wanted for row in rows if row.wanted is not None} == {
        'chunked forward': 1.0,
        'chunked forward + backward': 1.0,
    }


def test_every_scan_stands_beside_its_bounds(monkeypatch):
    monkeypatch.setattr(benchmark_scan, 'cpu_rates', lambda setup: Rates(1e9, 1e9, 'made up'))
    result = bound(SMALL)
    titles = [
        'LocalVMamba-micro forward',
        'LocalVMamba-micro backward',
        'LocalVim-micro forward',
        'LocalVim-micro backward',
    ]
    assert [table.title for table in result.tables] == titles
    assert '1.00 G exponentials and 1.0 GB per second: made up.' in result.notes
    first, *_, everything = result.tables[0].rows
    assert first['M exp'] == first['exp bound ms'] == 4 * 256 * 64 * 16 / 1e6
    steps = 2 if cpu.why_not('cpu') is None else 64  # low rank where the kernels take it
    assert first['MB'] == first['bytes bound ms'] == 4 * (256 * (64 + 4 * (steps + 32)) + 4 * 256 * 64) / 1e6
    for table in result.tables:
        *rows, last = table.rows
        for key in ('layers', 'M exp', 'MB', 'exp bound ms', 'bytes bound ms', 'ms'):
            assert last[key] == pytest.approx(sum(row[key] for row in rows)), (table.title, key)
        for row in table.rows:
            assert row['ms / bound'] == pytest.approx(row['ms'] / max(row['exp bound ms'], row['bytes bound ms']))
    assert everything['L'] is None


@pytest.mark.parametrize('built', [True, False])
def test_a_processors_rates_are_measured(monkeypatch, built):
    if built and cpu.why_not('cpu') is not None:
        pytest.skip('the C++ scan is not built')
    if not built:
        monkeypatch.setattr(cpu, 'why_not', lambda device_type: 'not built')
    rates = cpu_rates(Setup(threads=2, runs=1, small=True))
    assert 1e6 < rates.exponentials < 1e13
    assert 1e6 < rates.bytes < 1e13
    assert ('C++' if built else "torch's exp2") in rates.source


def test_a_gpus_rates_are_those_of_its_data_sheet():
    assert gpu_rates('NVIDIA H100 80GB HBM3').bytes == GPUS['h100'].bandwidth
    assert gpu_rates('NVIDIA A100-SXM4-80GB').exponentials == GPUS['a100'].exponentials
    with pytest.raises(UnavailableError, match="known of a100, h100 only, not of 'Tesla T4'"):
        gpu_rates('Tesla T4')


def test_triton_kernels_are_reported_for_both_gpus(monkeypatch):
    monkeypatch.setattr(triton_report, 'check_compiler', lambda: None)
    monkeypatch.setattr(
        triton_report, 'compile_report', lambda capability: [KernelReport('scan', capability, 80, 4, 2, 1)]
    )
    tables = triton(Setup()).tables
    assert [table.title for table in tables] == ['compiled for sm_80', 'compiled for sm_90']
    row = {'kernel': 'scan', 'registers': 80, 'spilled bytes': 4, 'shared bytes': 2, 'lane exchanges': 1}
    assert [list(table.rows) for table in tables] == [[row], [row]]


def test_without_triton_there_is_no_report(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.delenv('TRITON_INTERPRET', raising=False)
    monkeypatch.setattr(triton_report, 'version', missing)
    with pytest.raises(UnavailableError, match='wants triton >= 3.3: pip install triton'):
        triton(SMALL)


def test_with_an_old_triton_there_is_no_report(monkeypatch):
    monkeypatch.delenv('TRITON_INTERPRET', raising=False)
    monkeypatch.setattr(triton_report, 'version', lambda name: '3.0.0')
    with pytest.raises(UnavailableError, match='but 3.0.0 is installed'):
        triton(SMALL)


def test_in_the_interpreter_there_is_no_report(monkeypatch):
    monkeypatch.setenv('TRITON_INTERPRET', '1')
    with pytest.raises(UnavailableError, match='TRITON_INTERPRET=1'):
        triton(SMALL)
