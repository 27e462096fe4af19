import pytest
import torch

import timing
from timing import Setup, compare, compare_once, interleaved, quartiles, seconds


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
    monkeypatch.setattr(timing.time, 'perf_counter', lambda: events.append('clock') or float(len(events)))
    elapsed = seconds(lambda: events.append('work'), 'cuda')
    assert events == ['wait', 'clock', 'work', 'wait', 'clock']
    assert elapsed == 3.0


def test_the_cpu_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'synchronize', lambda: pytest.fail('there is no GPU'))
    assert seconds(lambda: None) >= 0


def test_the_ratio_is_the_median_of_the_rounds_not_a_ratio_of_medians():
    times = {'ours': [0.001, 0.010, 0.003], 'theirs': [0.001, 0.005, 0.006]}
    row = compare(times, 'ours', 'theirs', wanted=1.3, aim=1.0, label='ours, forward')
    assert row.ratio == 1.0
    assert row.quartiles == (0.75, 1.5)
    assert (row.value, row.base_value, row.unit) == (3.0, 5.0, 'ms')
    assert (row.name, row.base, row.runs, row.wanted, row.aim) == ('ours, forward', 'theirs', 3, 1.3, 1.0)


def test_counted_figures_are_compared_without_rounds():
    row = compare_once('FLOPs', 'Swin', 5.0, 4.0, 'G', wanted=2.0)
    assert (row.ratio, row.quartiles, row.runs, row.wanted) == (1.25, (1.25, 1.25), 1, 2.0)


def test_quartiles_of_one_value_are_that_value():
    assert quartiles([2.0]) == (2.0, 2.0)
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 4.0)


def test_bounds_hold_for_the_published_sizes_only():
    assert Setup().wanted(1.3) == 1.3
    assert Setup(small=True).wanted(1.3) is None


def test_what_takes_long_has_three_rounds_at_most():
    assert [Setup(runs=runs).few_runs for runs in (1, 3, 15)] == [1, 3, 3]
