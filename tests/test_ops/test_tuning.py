"""Choosing by timing, with a fake timer and fake kernels: no GPU is needed."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mmlocalmamba.ops import backends, local_selective_scan, scan_tuning, tuning
from mmlocalmamba.ops.backends import chunked
from mmlocalmamba.ops.tuning import Tuner, cache_folder, size_class
from mmlocalmamba.ops.tuning_file import driver_version, source_fingerprint

from .problems import make_problem

LIKE = torch.zeros(1)
SECONDS = {'slow': 3.0, 'fast': 1.0, 'middle': 2.0}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(tuning.ENVIRONMENT_VARIABLE, str(tmp_path / 'cache'))
    return tmp_path / 'cache'


@pytest.fixture
def messages(monkeypatch, caplog):
    monkeypatch.setattr(tuning.logger, 'propagate', False)
    tuning.logger.addHandler(caplog.handler)
    caplog.set_level(logging.DEBUG, 'mmlocalmamba')
    yield caplog
    tuning.logger.removeHandler(caplog.handler)


class FakeTimer:
    """Runs what it is given, which says how long it takes."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, run, device) -> float:
        self.runs += 1
        return SECONDS[run()]


def new_tuner(gpu: str = 'one', **changes) -> Tuner:
    return Tuner(FakeTimer(), lambda device: {'gpu': gpu, **changes}, kinds=('cpu',))


def choose(tuner: Tuner, problem: str = 'scan', names=tuple(SECONDS), like=LIKE) -> str:
    return tuner.choose(problem, lambda: names, lambda name: name, like)


def test_the_fastest_is_chosen_and_stays(folder) -> None:
    tuner = new_tuner()

    assert choose(tuner) == 'fast'
    assert choose(tuner, names=('slow', 'middle')) == 'fast'
    assert tuner.timer.runs == 3


def test_another_process_reads_what_was_chosen(folder) -> None:
    choose(new_tuner())
    tuner = new_tuner()

    assert choose(tuner) == 'fast'
    assert tuner.timer.runs == 0
    (file,) = folder.iterdir()
    assert json.loads(file.read_text()) == {'environment': {'gpu': 'one'}, 'choices': {'scan': 'fast'}}


@pytest.mark.parametrize('other', [dict(gpu='two'), dict(driver='2'), dict(kernels='changed')], ids=str)
def test_another_environment_is_tuned_anew(other) -> None:
    choose(new_tuner())
    tuner = new_tuner(**other)
    choose(tuner)

    assert tuner.timer.runs == 3


def test_a_choice_that_is_no_candidate_any_more_is_made_anew() -> None:
    choose(new_tuner())

    assert choose(new_tuner(), names=('slow', 'middle')) == 'middle'


def test_processes_do_not_overwrite_each_others_choices(folder) -> None:
    one, other = new_tuner(), new_tuner()
    choose(one, 'a')
    choose(other, 'b')
    choose(one, 'c')

    (file,) = folder.iterdir()
    assert json.loads(file.read_text())['choices'] == {'a': 'fast', 'b': 'fast', 'c': 'fast'}


@pytest.mark.parametrize('content', ['', 'not JSON', '[]', '{"choices": 3}', '{"choices": {"scan": 1}}', '{}'])
def test_a_corrupted_file_is_replaced(folder, messages, content) -> None:
    choose(new_tuner())
    (file,) = folder.iterdir()
    file.write_text(content)
    tuner = new_tuner()

    assert choose(tuner) == 'fast'
    assert tuner.timer.runs == 3
    assert 'is not used, kernels are tuned anew' in messages.text
    assert json.loads(file.read_text())['choices'] == {'scan': 'fast'}


def test_a_folder_that_cannot_be_written_is_no_error(folder, messages) -> None:
    folder.write_text('a file where the folder should be')
    tuner = new_tuner()

    assert choose(tuner) == choose(tuner, 'other') == 'fast'
    assert len([r for r in messages.records if 'cannot be written' in r.getMessage()]) == 1


def test_half_written_files_are_not_left_behind(folder, monkeypatch) -> None:
    monkeypatch.setattr(os, 'replace', lambda *_: (_ for _ in ()).throw(OSError('disk full')))

    assert choose(new_tuner()) == 'fast'
    assert list(folder.iterdir()) == []


def test_it_can_be_switched_off(folder, monkeypatch) -> None:
    monkeypatch.setenv(tuning.ENVIRONMENT_VARIABLE, '0')
    tuner = new_tuner()

    assert choose(tuner) == 'slow'
    assert tuner.timer.runs == 0
    assert not folder.exists()


def test_it_is_logged_once_where_choices_are_kept(folder, messages) -> None:
    tuner = new_tuner()
    choose(tuner, 'a')
    choose(tuner, 'b')

    (record,) = [record for record in messages.records if record.levelno == logging.INFO]
    assert str(folder) in record.getMessage()
    assert 'MMLOCALMAMBA_TUNING=0 switches this off' in record.getMessage()


def test_what_cannot_run_is_not_chosen(messages) -> None:
    def run(name: str) -> str:
        if name == 'fast':
            raise RuntimeError('out of resources: shared memory')
        return name

    assert new_tuner().choose('scan', lambda: tuple(SECONDS), run, LIKE) == 'middle'
    assert 'fast is not used: RuntimeError: out of resources' in messages.text


def test_if_nothing_can_run_the_rule_decides() -> None:
    def run(name: str) -> str:
        raise RuntimeError('no memory')

    assert new_tuner().choose('scan', lambda: tuple(SECONDS), run, LIKE) == 'slow'


def test_one_candidate_is_not_timed() -> None:
    tuner = new_tuner()

    assert choose(tuner, names=('slow',)) == 'slow'
    assert tuner.timer.runs == 0


def test_other_devices_are_not_tuned() -> None:
    tuner = Tuner(FakeTimer(), lambda device: {})

    assert choose(tuner) == 'slow'
    assert tuner.timer.runs == 0


@pytest.mark.parametrize('budget', ['BUDGET', 'TOTAL_BUDGET'])
def test_budgets_are_kept(monkeypatch, budget) -> None:
    monkeypatch.setattr(tuning, budget, -1.0)
    tuner = new_tuner()

    assert choose(tuner) == 'slow'
    assert tuner.timer.runs == (1 if budget == 'BUDGET' else 0)


def test_tensors_without_data_are_not_timed_but_get_what_is_known() -> None:
    choose(new_tuner(), 'known')
    with FakeTensorMode():
        like = torch.zeros(1)
    tuner = new_tuner()

    assert choose(tuner, 'known', like=like) == 'fast'
    assert choose(tuner, 'unknown', like=like) == 'slow'
    assert choose(tuner, 'unknown') == 'slow'  # the traced model has been told so
    assert tuner.timer.runs == 0


def test_nothing_is_timed_while_a_cuda_graph_is_captured(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, 'is_initialized', lambda: True)
    monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', lambda: True)

    class Like(torch.nn.Parameter):
        device = torch.device('cuda', 0)

    tuner = new_tuner()
    like = torch.nn.Parameter(torch.zeros(1))
    assert tuner.may_time(like)
    monkeypatch.setattr(tuning, 'Tensor', Like)
    assert not tuner.may_time(Like(torch.zeros(1)))


def test_what_is_met_first_in_a_capture_gets_the_rules_choice(monkeypatch, messages) -> None:
    tuner = new_tuner()
    monkeypatch.setattr(tuning, '_is_capturing', lambda device: True)

    assert choose(tuner, 'a') == choose(tuner, 'b') == 'slow'
    assert tuner.timer.runs == 0
    assert messages.text.count('run a step before the capture') == 1


def test_several_processes_get_the_rules_choice_and_are_told_what_to_call(monkeypatch, messages) -> None:
    choose(new_tuner())  # what a file says must not matter either: processes may read different ones
    tuner = new_tuner()
    monkeypatch.setattr(tuning, '_world_size', lambda: 2)

    assert choose(tuner, 'scan') == choose(tuner, 'other') == 'slow'
    assert tuner.timer.runs == 0
    (line,) = [line for line in messages.text.splitlines() if 'several processes' in line]
    module, _, function = 'mmlocalmamba.ops.tuning.tune_together'.rpartition('.')
    assert f'{module}.{function}' in line
    assert callable(getattr(tuning, function))


def test_nothing_is_timed_while_a_model_is_traced() -> None:
    tuner = new_tuner()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.compiler, 'is_compiling', lambda: True)
        assert choose(tuner) == 'slow'
    assert tuner.timer.runs == 0


def test_candidates_run_without_gradients() -> None:
    seen = []

    def run(name: str) -> str:
        seen.append(torch.is_grad_enabled())
        return name

    new_tuner().choose('scan', lambda: tuple(SECONDS), run, LIKE)
    assert seen == [False] * 3


@pytest.mark.parametrize(('size', 'want'), [(0, 1), (1, 1), (2, 2), (3, 4), (4096, 4096), (4097, 8192)])
def test_sizes_are_classed_by_powers_of_two(size, want) -> None:
    assert size_class(size) == want


@pytest.mark.parametrize(
    ('platform', 'variables', 'want'),
    [
        ('linux', {'XDG_CACHE_HOME': '/x'}, '/x'),
        ('linux', {'HOME': '/home/me'}, '/home/me/.cache'),
        ('darwin', {'HOME': '/Users/me'}, '/Users/me/Library/Caches'),
        ('win32', {'LOCALAPPDATA': '/local'}, '/local'),
    ],
)
def test_the_cache_folder_follows_the_platform(monkeypatch, platform, variables, want) -> None:
    for name in ('XDG_CACHE_HOME', 'LOCALAPPDATA'):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, 'platform', platform)

    assert cache_folder() == Path(want) / 'mmlocalmamba' / 'tuning'


def test_without_a_home_folder_choices_are_kept_for_the_process(monkeypatch) -> None:
    monkeypatch.delenv(tuning.ENVIRONMENT_VARIABLE)
    monkeypatch.setattr(tuning, 'cache_folder', lambda: None)

    assert choose(new_tuner()) == 'fast'


def test_the_driver_is_read_where_the_system_tells_it(tmp_path, monkeypatch) -> None:
    file = tmp_path / 'version'
    file.write_text('NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023')
    monkeypatch.setattr('mmlocalmamba.ops.tuning_file._DRIVERS', (tmp_path / 'nothing', file))
    assert driver_version() == '535.104.05'
    monkeypatch.setattr('mmlocalmamba.ops.tuning_file._DRIVERS', ())
    assert driver_version() == 'unknown'


def test_the_fingerprint_changes_with_the_kernels(tmp_path, monkeypatch) -> None:
    (tmp_path / 'triton').mkdir()
    (tmp_path / 'triton/kernels.py').write_text('a')
    (tmp_path / 'cuda.py').write_text('b')
    monkeypatch.setattr('mmlocalmamba.ops.tuning_file._BACKENDS', tmp_path)
    before = source_fingerprint()
    (tmp_path / 'triton/kernels.py').write_text('c')

    assert source_fingerprint() != before


@pytest.fixture
def two_backends(monkeypatch) -> dict[str, int]:
    """Two back ends that could scan here; how often each is timed and used."""
    monkeypatch.setattr(tuning, '_tuner', new_tuner())
    for module in (backends, scan_tuning):
        monkeypatch.setattr(module, 'interchangeable_backends', lambda device: ('chunked', 'reference'))
    monkeypatch.setattr(backends, 'backend_for', lambda device='cpu', name=None: name or 'chunked')


@pytest.mark.parametrize('training', [False, True])
def test_the_back_end_of_a_scan_is_chosen_by_its_speed(monkeypatch, two_backends, training) -> None:
    seconds = iter([2.0, 1.0])

    def timer(run, device) -> float:
        run()
        return next(seconds)

    monkeypatch.setattr(tuning._tuner, 'timer', timer)
    inputs = make_problem(2, 3, dtype=torch.float32).inputs

    assert scan_tuning.fastest_backend(inputs, training) == 'reference'
    assert scan_tuning.fastest_backend(inputs, training) == 'reference'


def test_a_back_end_that_was_asked_for_is_not_timed(two_backends, monkeypatch) -> None:
    def forbidden(*_args) -> None:
        raise AssertionError('timed')

    monkeypatch.setattr(scan_tuning, 'tuned', forbidden)
    inputs = make_problem(2, 3, dtype=torch.float32).inputs

    torch.testing.assert_close(local_selective_scan(inputs, 'chunked'), chunked.forward(inputs, False)[0])


def test_what_is_forced_has_no_rival(monkeypatch) -> None:
    monkeypatch.setenv(backends.ENVIRONMENT_VARIABLE, 'reference')
    backends._choose.cache_clear()
    backends.interchangeable_backends.cache_clear()

    assert backends.interchangeable_backends(torch.device('cpu')) == ('reference',)
    backends._choose.cache_clear()
    backends.interchangeable_backends.cache_clear()


TWO_RANKS = """
import os, sys, torch
from torch import distributed
from mmlocalmamba.ops import tuning

rank = int(sys.argv[1])
distributed.init_process_group('gloo', init_method='file://' + sys.argv[2], rank=rank, world_size=2)
times = {'a': 1.0 + rank, 'b': 2.0 - rank}  # rank 1 would choose b
ran = []
def timer(run, device):
    return times[run()]
tuning._tuner = tuning.Tuner(timer, lambda device: {'rank': str(rank)}, kinds=('cpu',))
like = torch.zeros(1)
def run(name):
    ran.append(name)
    return name
def choose(problem):
    return tuning.tuned(problem, lambda: ('b', 'a'), run, like)
before = choose('scan')
tuning.tune_together(lambda: choose('scan'), like.device)
print(before, choose('scan'), choose('met later'), len(ran))
distributed.destroy_process_group()
"""


def test_ranks_take_what_rank_0_has_chosen(tmp_path) -> None:
    command = [sys.executable, '-c', TWO_RANKS]
    root = str(Path(tuning.__file__).parents[2])
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([root, os.environ.get('PYTHONPATH', '')])}
    ranks = [
        subprocess.Popen([*command, str(rank), str(tmp_path / 'store')], stdout=subprocess.PIPE, env=environment)
        for rank in range(2)
    ]
    said = [rank.communicate(timeout=120)[0].decode().split() for rank in ranks]

    assert said == [['b', 'a', 'b', '2'], ['b', 'a', 'b', '0']]
