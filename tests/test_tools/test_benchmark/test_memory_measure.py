import subprocess

import pytest

import memory_measure
from memory_measure import memory, peak_in_new_process, peak_of_step
from mmlocalmamba.analysis import measuring
from mmlocalmamba.analysis.measuring import UnavailableError
from timing import Setup

SMALL = Setup(threads=1, runs=1, small=True)


@pytest.fixture
def peaks(monkeypatch):
    """The processes' answers, without the processes."""
    asked = []

    def answer(name, side, setup):
        asked.append((name, side))
        return {'LocalVMamba': 120, 'LocalVMamba with_cp': 50, 'Swin': 100}[name] << 20

    monkeypatch.setattr(memory_measure, 'peak_in_new_process', answer)
    monkeypatch.setattr(memory_measure, 'resident', lambda field: 0)
    return asked


def test_the_bound_stands_beside_the_ratio(peaks):
    plain, with_cp = memory(Setup()).comparisons
    assert (plain.ratio, plain.value, plain.base_value, plain.unit, plain.wanted) == (1.2, 120, 100, 'MiB', 1.3)
    assert (plain.name, plain.base) == ('LocalVMamba-T training step', 'Swin-T')
    assert (with_cp.ratio, with_cp.wanted, with_cp.name) == (0.5, None, 'LocalVMamba-T with_cp training step')
    assert set(peaks) == {('LocalVMamba', 1024), ('LocalVMamba with_cp', 1024), ('Swin', 1024)}


def test_a_process_that_fails_is_an_error(monkeypatch):
    failed = subprocess.CompletedProcess([], 3, stdout='', stderr='out of memory')
    monkeypatch.setattr(subprocess, 'run', lambda *_, **__: failed)
    with pytest.raises(RuntimeError, match='memory of Swin ended with status 3:\nout of memory'):
        peak_in_new_process('Swin', 64, SMALL)


@pytest.mark.parametrize('name', memory_measure.MODELS)
def test_a_step_is_counted_from_before_the_model_was_built(monkeypatch, name):
    asked, build = [], memory_measure.build
    monkeypatch.setattr(
        memory_measure, 'resident', lambda field: asked.append(field) or {'VmRSS': 2, 'VmHWM': 7}[field]
    )
    monkeypatch.setattr(memory_measure, 'build', lambda *arguments: asked.append('build') or build(*arguments))
    assert peak_of_step(name, 64, SMALL) == 5
    assert asked == ['VmRSS', 'build', 'VmHWM']


def test_checkpoints_are_used_where_they_are_named():
    with_cp = memory_measure.build('LocalVMamba with_cp', 64, SMALL)
    assert all(stage.with_cp for stage in with_cp.stages)
    assert not any(stage.with_cp for stage in memory_measure.build('LocalVMamba', 64, SMALL).stages)


def test_a_system_that_does_not_tell_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(measuring, 'STATUS', tmp_path / 'status')
    with pytest.raises(UnavailableError, match='which Linux alone has'):
        memory(SMALL)
