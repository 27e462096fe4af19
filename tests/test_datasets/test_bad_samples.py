import multiprocessing
import os

import pytest

from mmlocalmamba.datasets.bad_samples import POLICIES, BadSample, BadSampleList, check_policy


def _add_many(folder, worker):
    for index in range(200):
        BadSampleList(folder).add(BadSample(f'{worker}/{index}.png', 'truncated ' * 20))


def test_a_sample_is_listed_as_source_and_problem_with_a_tab_between(tmp_path):
    bad = BadSampleList(tmp_path / 'not yet there')
    assert bad.read() == []
    assert len(bad) == 0
    bad.add(BadSample('a.png', 'is empty'))
    bad.add(BadSample('annotation 17 of instances.json', 'has no area'))
    bad.add(BadSample('a.png', 'is empty'))
    assert bad.path.read_text() == 'a.png\tis empty\nannotation 17 of instances.json\thas no area\n'
    assert len(bad) == 2


def test_another_object_may_repeat_a_sample_and_it_counts_once(tmp_path):
    for _ in range(2):
        BadSampleList(tmp_path).add(BadSample('a.png', 'is empty'))
    assert BadSampleList(tmp_path).read() == [BadSample('a.png', 'is empty')]


@pytest.mark.parametrize(
    'sample',
    [
        BadSample('a\tb\\n.png', 'two\nlines\r\n'),
        BadSample('\\', '\\\\t'),
        BadSample(os.fsdecode(b'\xff\xfe.png'), 'größer'),
    ],
)
def test_odd_characters_come_back(tmp_path, sample):
    bad = BadSampleList(tmp_path)
    bad.add(sample)
    assert len(bad.path.read_bytes().splitlines()) == 1
    assert bad.read() == [sample]


def test_lines_of_several_processes_do_not_mix(tmp_path):
    context = multiprocessing.get_context('fork')
    workers = [context.Process(target=_add_many, args=(tmp_path, worker)) for worker in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    expected = {BadSample(f'{worker}/{index}.png', 'truncated ' * 20) for worker in range(4) for index in range(200)}
    assert set(BadSampleList(tmp_path).read()) == expected


def test_a_file_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / 'taken').write_text('a file')
    with pytest.raises(OSError, match='taken'):
        BadSampleList(tmp_path / 'taken').add(BadSample('a', 'b'))


def test_an_unknown_policy_is_refused_with_both_that_there_are():
    for policy in POLICIES:
        check_policy(policy)
    with pytest.raises(ValueError, match="bad_samples='ignore': want 'raise' .* or 'skip'"):
        check_policy('ignore')
