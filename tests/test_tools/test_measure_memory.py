import json
from pathlib import Path

import pytest
import torch

from mmlocalmamba.directions import CANDIDATES, parse_directions

SMALL = ['--backbone', 'LocalVim', '--blocks', '2', '--size', '64', '--device', 'cpu']


@pytest.fixture
def measure_memory(tool):
    return tool('search/measure_memory')


def test_memory_follows_what_is_computed(measure_memory, capsys):
    measure_memory.main([*SMALL, '--size', '192', '--candidates', '8', '--draw', 'all', '2', '--out', 'rows.json'])
    full, drawn = json.loads(Path('rows.json').read_text())
    assert (full['drawn'], drawn['drawn']) == (None, 2)
    assert full['weights'] == drawn['weights']
    assert full['step'] > 2 * drawn['step']
    table = capsys.readouterr().out.splitlines()[-2:]
    assert [line.split()[:2] for line in table] == [['8', 'all'], ['8', '2']]
    assert table[0].split()[3] == f'{full["step"] / 2**20:.0f}'


def test_weights_are_counted_with_the_moments_of_adamw(measure_memory):
    setting = measure_memory.Setting('LocalVMamba', 4, 1, 32, 1, 20, 'cpu')
    parameters = sum(parameter.numel() for parameter in measure_memory.build(setting).parameters())
    found = measure_memory.measure(setting)
    assert found.weights == pytest.approx(12 * parameters, rel=0.001)
    assert found.step >= 4 * parameters, 'the gradients at least'


def test_a_storage_counts_once_and_until_it_is_freed(measure_memory):
    first = torch.zeros(100)
    with measure_memory.TensorMemory([first]) as memory:
        second = first + 1
        view = second[:50]
        assert memory.current == memory.peak == 800
        del second
        assert memory.current == 800
        del view
        assert memory.current == 400
        first.add_(1)
    assert memory.peak == 800


@pytest.mark.parametrize('count', [8, 32, 128])
def test_candidates_are_different_directions(measure_memory, count):
    names = measure_memory.candidate_names(count)
    parse_directions([names], 1)
    assert len(names) == count
    assert names[:6] == list(CANDIDATES[:6])


@pytest.mark.parametrize('count', [2, 7])
def test_other_numbers_of_candidates_are_refused(measure_memory, count):
    with pytest.raises(ValueError, match=f'{count} candidates cannot be made'):
        measure_memory.candidate_names(count)


def test_drawing_more_than_there_are_is_refused(measure_memory):
    with pytest.raises(ValueError, match='num_sampled=5 does not fit layers.0.mixer, which has 4'):
        measure_memory.main([*SMALL, '--candidates', '4', '--draw', '5'])


def test_other_words_are_refused(measure_memory, capsys):
    with pytest.raises(SystemExit):
        measure_memory.parse_args(['--draw', 'some'])
    assert "wants numbers of branches and 'all', got some" in capsys.readouterr().err
