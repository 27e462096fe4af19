import pytest
import torch

import scan_measures
from mmlocalmamba.models import LocalVMamba
from mmlocalmamba.ops import available_backends
from mmlocalmamba.ops.backends import backend_for
from rates import Rates
from scan_measures import backends, bound, scan
from timing import Setup

SMALL = Setup(threads=1, runs=1, small=True)
RUNNABLE = [name for name, reason in available_backends('cpu').items() if reason is None]


@pytest.fixture
def small_models_in_full_size(monkeypatch):
    """The published sizes' names and bounds, on small models and images."""
    monkeypatch.setattr(scan_measures, 'LocalVMamba', lambda arch: LocalVMamba('micro'))
    monkeypatch.setattr(scan_measures, 'swin', lambda setup, side: torch.nn.Identity())
    monkeypatch.setattr(scan_measures, 'side_of', lambda setup: 32)


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
    monkeypatch.setattr(scan_measures, 'cpu_rates', lambda setup: Rates(1e9, 1e9, 'made up'))
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
    dt_width = 2 if backend_for('cpu') == 'cpu' else 64  # low rank where the kernels take it
    assert first['MB'] == first['bytes bound ms'] == 4 * (256 * (64 + 4 * (dt_width + 32)) + 4 * 256 * 64) / 1e6
    for table in result.tables:
        *rows, last = table.rows
        for key in ('layers', 'M exp', 'MB', 'exp bound ms', 'bytes bound ms', 'ms'):
            assert last[key] == pytest.approx(sum(row[key] for row in rows)), (table.title, key)
        for row in table.rows:
            assert row['ms / bound'] == pytest.approx(row['ms'] / max(row['exp bound ms'], row['bytes bound ms']))
    assert everything['L'] is None
