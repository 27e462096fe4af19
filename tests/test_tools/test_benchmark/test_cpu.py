import json
import os
import subprocess
import sys

import pytest
import torch

from mmlocalmamba.analysis.measuring import UnavailableError
from timing import Result, Table, compare_once

ARGUMENTS = ['--size', 'small', '--threads', '1']


@pytest.fixture
def benchmark(tool):
    return tool('benchmark/cpu')


@pytest.fixture
def measures(benchmark, monkeypatch):
    """Three measures that take no time: one with figures, one that cannot be taken, one that fails."""

    def forward(setup):
        rows = [{'model': 'ours', 'side': 32 * n, 'tokens': 4 * n * n, 'ms': float(n)} for n in (1, 2)]
        return Result('speed', [compare_once('ours', 'Swin', 3.0, 2.0, 'ms', 1.3)], [Table('points', rows)])

    def unavailable(setup):
        raise UnavailableError('the rates are not known')

    def broken(setup):
        raise RuntimeError('broken')

    measures = {'resolution': (forward, 'a'), 'bound': (unavailable, 'b'), 'broken': (broken, 'c')}
    monkeypatch.setattr(benchmark, 'MEASURES', measures)
    return measures


def test_results_are_printed_and_saved(benchmark, measures, tmp_path, capsys):
    out, plot = tmp_path / 'new' / 'results.json', tmp_path / 'new' / 'tokens.svg'
    benchmark.main([*ARGUMENTS, '--only', 'resolution,bound', '--out', str(out), '--plot', str(plot)])
    found = json.loads(out.read_text())
    assert list(found['measures']) == ['resolution', 'bound']
    assert found['measures']['resolution']['comparisons'][0]['ratio'] == 1.5
    assert found['measures']['bound'] == {'title': 'b', 'unavailable': 'the rates are not known'}
    assert found['setup'] == {'device': 'cpu', 'threads': 1, 'runs': 1, 'batch': 1, 'small': True}
    assert found['environment']['threads'] == torch.get_num_threads() == 1
    assert '<svg' in plot.read_text()
    printed = capsys.readouterr()
    assert '<= 1.3: NOT MET' in printed.out
    assert 'bound: not measured: the rates are not known' in printed.out
    assert '[1/2] resolution: a ...' in printed.err
    assert '[1/2]' not in printed.out


def test_what_was_measured_before_a_failure_is_kept(benchmark, measures, tmp_path):
    out = tmp_path / 'results.json'
    with pytest.raises(RuntimeError, match='broken'):
        benchmark.main([*ARGUMENTS, '--only', 'resolution,broken', '--out', str(out)])
    assert list(json.loads(out.read_text())['measures']) == ['resolution']


@pytest.mark.parametrize(('load', 'busy'), [(10.0 * (os.cpu_count() or 1), True), (0.0, False), (None, False)])
def test_a_busy_machine_is_said(benchmark, measures, monkeypatch, capsys, load, busy):
    found = {'load before': load, 'cpu': 'a processor'}
    monkeypatch.setattr(benchmark, 'environment', lambda setup: found)
    benchmark.main([*ARGUMENTS, '--only', 'resolution'])
    assert ('this machine is busy' in capsys.readouterr().err) == busy


def test_all_measures_are_taken_unless_told(benchmark):
    args = benchmark.parse_args([])
    assert args.only == list(benchmark.MEASURES)
    assert (args.threads, args.runs, args.batch, args.device, args.size) == (2, 15, 1, 'cpu', 'full')
    assert benchmark.parse_args(['--only', 'scan, vim', '--runs', '4']).only == ['scan', 'vim']


def test_the_documentation_names_every_measure(benchmark, repo_dir):
    text = (repo_dir / 'docs/benchmarks.md').read_text(encoding='utf-8')
    assert [name for name in benchmark.MEASURES if f'`{name}`' not in text] == []


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--only', 'forward,speed'], "unknown 'speed': choose from forward, training, vim, baselines, scan"),
        (['--only', ''], "unknown '': choose from"),
        (['--runs', '0'], '--runs wants a positive number, got 0'),
        (['--threads', '0'], '--threads wants a positive number, got 0'),
        (['--batch', '-1'], '--batch wants a positive number, got -1'),
        (['--plot', 'tokens.txt'], "no picture can be written as 'tokens.txt'"),
        (['--plot', 'a.png', '--only', 'scan'], "--plot draws the measure 'resolution', which --only leaves out"),
    ],
)
def test_wrong_arguments_are_refused(benchmark, capsys, arguments, message):
    with pytest.raises(SystemExit):
        benchmark.parse_args(arguments)
    assert message in capsys.readouterr().err


def test_a_missing_gpu_is_refused(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(SystemExit):
        benchmark.parse_args(['--device', 'cuda'])
    assert 'PyTorch sees no GPU here' in capsys.readouterr().err


@pytest.mark.slow
def test_every_measure_can_be_taken(benchmark, repo_dir, tmp_path):
    out, plot = tmp_path / 'results.json', tmp_path / 'tokens.png'
    command = [sys.executable, 'tools/benchmark/cpu.py', *ARGUMENTS, '--out', str(out), '--plot', str(plot)]
    subprocess.run(command, cwd=repo_dir, check=True, capture_output=True, timeout=300)
    found = json.loads(out.read_text())
    assert list(found['measures']) == list(benchmark.MEASURES)
    for name, measure in found['measures'].items():
        assert 'unavailable' in measure or measure['comparisons'] or measure['tables'], name
        for row in measure.get('comparisons', []):
            assert row['ratio'] > 0, (name, row)
    assert 'unavailable' not in found['measures']['forward']
    for row in found['measures']['memory'].get('comparisons', []):
        assert row['value'] > 10, row  # MiB: weights and gradients alone are more
    assert plot.read_bytes()[:4] == b'\x89PNG'
