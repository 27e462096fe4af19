from timing import Setup, compare, compare_once


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


def test_bounds_hold_for_the_published_sizes_only():
    assert Setup().wanted(1.3) == 1.3
    assert Setup(small=True).wanted(1.3) is None


def test_what_takes_long_has_three_rounds_at_most():
    assert [Setup(runs=runs).few_runs for runs in (1, 3, 15)] == [1, 3, 3]
