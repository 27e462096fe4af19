import json

import numpy as np
import pytest
import torch

import mmlocalmamba
from mmlocalmamba.analysis import benchmark_report
from mmlocalmamba.analysis.benchmark import Comparison, Result, Setup, Table
from mmlocalmamba.analysis.benchmark_report import (
    align,
    environment,
    environment_text,
    number,
    plot_growth,
    to_json,
    to_text,
)
from mmlocalmamba.ops import backend_for
from mmlocalmamba.ops.backends import cpu

FAST = Comparison('ours forward', 'Swin-T', 1.05, (1.01, 1.10), 168.0, 160.0, 'ms', 15, 1.3, 1.0)
SLOW = Comparison('ours training', 'Swin-T', 1.75, (1.7, 1.8), 630.0, 360.0, 'ms', 15, 1.6)
FREE = Comparison('FLOPs', 'Swin-T', 1.27, (1.27, 1.27), 5.7, 4.5, 'G', 1)
RESULT = Result(
    'models',
    [FAST, SLOW, FREE],
    [Table('parts', [{'part': 'scan', 'ms': 12.345}, {'part': 'rest', 'ms': None}])],
    ['Note.'],
)


def test_json_says_which_bounds_are_met():
    found = json.loads(json.dumps(to_json(RESULT)))
    assert [row['met'] for row in found['comparisons']] == [True, False, None]
    assert found['comparisons'][0]['quartiles'] == [1.01, 1.10]
    assert found['tables'] == [
        {'title': 'parts', 'rows': [{'part': 'scan', 'ms': 12.345}, {'part': 'rest', 'ms': None}]}
    ]
    assert (found['title'], found['notes']) == ('models', ['Note.'])


def test_a_bound_is_met_by_its_own_value():
    assert benchmark_report.met(Comparison('a', 'b', 1.3, (1.3, 1.3), 1, 1, 'ms', 1, wanted=1.3))


def test_text_shows_ratios_bounds_and_medians():
    lines = to_text(RESULT).splitlines()
    fast = next(line for line in lines if line.startswith('ours forward'))
    for piece in ('1.050', '1.010 to 1.100', '<= 1.3: met', '168 ms', '160 ms'):
        assert piece in fast
    assert '<= 1.6: NOT MET' in next(line for line in lines if line.startswith('ours training'))
    flops = next(line for line in lines if line.startswith('FLOPs'))
    assert flops.split() == ['FLOPs', 'Swin-T', '1.270', '5.70', 'G', '4.50', 'G', '1']
    assert 'Note.' in lines


def test_columns_are_aligned():
    text = align([{'part': 'scan', 'ms': 1.0}, {'part': 'a longer name', 'ms': 123.0}])
    assert text.splitlines() == [
        'part             ms',
        '-------------------',
        'scan           1.00',
        'a longer name   123',
    ]


@pytest.mark.parametrize(
    ('value', 'text'),
    [(0.0, '0'), (0.0123, '0.012'), (1.234, '1.23'), (12.34, '12.3'), (1234.5, '1234'), (-12.34, '-12.3')],
)
def test_numbers_have_the_digits_that_count(value, text):
    assert number(value) == text


def test_the_environment_names_versions_threads_and_what_is_used():
    found = environment(Setup())
    json.dumps(found)
    assert found['mmlocalmamba'] == mmlocalmamba.__version__
    assert found['torch'] == torch.__version__.split('+')[0] or found['torch'] == torch.__version__
    assert all(found[name] for name in ('python', 'torchvision', 'timm', 'system', 'cpu'))
    assert found['threads'] == torch.get_num_threads()
    assert found["scan's back end"] == backend_for('cpu')


def test_a_missing_extension_is_said(monkeypatch):
    monkeypatch.setattr(cpu, 'why_not', lambda device_type: 'not built: get a compiler.')
    text = environment_text(environment(Setup()))
    assert 'instruction sets of the C++ scan  not built: get a compiler.' in text


def test_a_gpu_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda: 'H100')
    monkeypatch.setattr(benchmark_report, 'backend_for', lambda device: f'for {device}')
    found = environment(Setup('cuda'))
    assert (found['gpu'], found["scan's back end"]) == ('H100', 'for cuda')


def test_what_is_not_installed_is_left_out_of_the_text(monkeypatch):
    monkeypatch.setattr(benchmark_report, 'PACKAGES', ('torch', 'no-such-package'))
    found = environment(Setup())
    assert found['no-such-package'] is None
    assert 'no-such-package' not in environment_text(found)


def points(model, factor):
    return [{'model': model, 'side': 16 * n, 'tokens': n * n, 'ms': factor * n**3} for n in (4, 8, 16)]


def test_the_picture_has_a_line_per_model_and_a_linear_one(tmp_path):
    figure = plot_growth([*points('ours', 2.0), *points('Swin', 1.0)], 'a machine')
    (axes,) = figure.axes
    ours, swin, linear = axes.get_lines()
    assert [line.get_label() for line in (ours, swin, linear)] == ['ours', 'Swin', 'linear, through ours 128²']
    assert list(ours.get_ydata()) == [2.0 * 4**3, 2.0 * 8**3, 2.0 * 16**3]
    x, y = (np.asarray(data) for data in (linear.get_xdata(), linear.get_ydata()))
    np.testing.assert_allclose(y / x, 2.0 * 8**3 / 8**2)
    assert (axes.get_xscale(), axes.get_yscale()) == ('log', 'log')
    assert [label.get_text() for label in axes.get_xticklabels()] == ['16\n64²', '64\n128²', '256\n256²']
    assert axes.get_title(loc='left') == 'a machine'
    figure.savefig(tmp_path / 'tokens.png')
    assert (tmp_path / 'tokens.png').read_bytes()[:4] == b'\x89PNG'
