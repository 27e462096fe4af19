from pathlib import Path

import pytest
import torch

from mmlocalmamba.analysis import measuring
from mmlocalmamba.analysis.measuring import interleaved, quartiles, resident, seconds


def test_functions_run_in_turn_after_warming_up():
    order = []
    functions = {name: (lambda name=name: order.append(name)) for name in 'ab'}
    times = interleaved(functions, runs=3, warm_up=1)
    assert ''.join(order) == 'ab' + 'ababab'
    assert {name: len(rounds) for name, rounds in times.items()} == {'a': 3, 'b': 3}


@pytest.mark.parametrize(('runs', 'rounds'), [(1, 2), (2, 4), (5, 7)])
def test_there_are_two_rounds_of_warming_up_but_no_more_than_runs(runs, rounds):
    calls = []
    interleaved({'a': lambda: calls.append(0)}, runs)
    assert len(calls) == rounds


@pytest.mark.parametrize(('functions', 'runs'), [({}, 1), ({'a': print}, 0)])
def test_nothing_to_time_is_refused(functions, runs):
    with pytest.raises(ValueError, match=f'got {len(functions)} and {runs}'):
        interleaved(functions, runs)


def test_the_clock_runs_until_a_gpu_is_done(monkeypatch):
    events = []
    monkeypatch.setattr(torch.cuda, 'synchronize', lambda: events.append('wait'))
    monkeypatch.setattr(measuring.time, 'perf_counter', lambda: events.append('clock') or float(len(events)))
    elapsed = seconds(lambda: events.append('work'), 'cuda')
    assert events == ['wait', 'clock', 'work', 'wait', 'clock']
    assert elapsed == 3.0


def test_the_cpu_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'synchronize', lambda: pytest.fail('there is no GPU'))
    assert seconds(lambda: None) >= 0


def test_quartiles_of_one_value_are_that_value():
    assert quartiles([2.0]) == (2.0, 2.0)
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 4.0)


@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='no /proc')
def test_memory_is_read_in_bytes():
    assert 10 << 20 < resident('VmRSS') <= resident('VmHWM') < 1 << 40
