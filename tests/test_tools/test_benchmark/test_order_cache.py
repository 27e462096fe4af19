import random

import pytest

from mmlocalmamba.models import LocalVMamba


@pytest.fixture
def order_cache(tool):
    return tool('benchmark/order_cache')


def test_few_sizes_are_made_once(order_cache):
    generator = random.Random(0)
    sizes = order_cache.different_sizes(5, 2, 32, generator)
    assert len(set(sizes)) == 5
    row = order_cache.simulate('local_vmamba_tiny', sizes, 400, generator)
    # 14 of its 15 blocks have directions of their own
    assert row['orders made per step'] * 400 == 5 * 14
    assert row['hits %'] == pytest.approx(100 * (1 - 5 * 14 / (400 * 15)))


def test_sizes_are_those_of_padded_batches(order_cache):
    sizes = order_cache.different_sizes(50, 2, 32, random.Random(0))
    assert all(side % 32 == 0 and 480 <= side <= 1344 for size in sizes for side in size)
    assert any(height > width for height, width in sizes)
    assert any(height < width for height, width in sizes)


def test_few_possible_sizes_end_the_drawing(order_cache):
    assert len(set(order_cache.different_sizes(9, 1, 4096, random.Random(0)))) == 1


def test_depths_are_those_of_the_models(order_cache):
    for name, depths in order_cache.DEPTHS.items():
        assert LocalVMamba.arch_zoo[name.removeprefix('local_vmamba_')]['depths'] == depths


def test_a_row_per_model(order_cache, capsys):
    order_cache.main(['--sizes', '3', '--steps', '20'])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[2:]] == [['local_vmamba_tiny', '3'], ['local_vmamba_small', '3']]


def test_wrong_numbers_are_refused(order_cache, capsys):
    with pytest.raises(SystemExit):
        order_cache.parse_args(['--sizes', '0'])
    assert '--sizes wants a positive number, got 0' in capsys.readouterr().err
