"""Position tables and rotary embedding."""

import math

import pytest
import torch

from mmlocalmamba.models.layers.position import Rotary2d, resize_table, rotary_tables, square_grid
from mmlocalmamba.ops.add_norm import rotate_pairs

pytestmark = pytest.mark.usefixtures('on_each_device')


def test_rotary_tables_follow_the_formula():
    cos, sin = rotary_tables(grid=7, dim=16)
    row, column, pair = 3, 5, 2
    frequency = 10000 ** (-2 * pair / 8)
    token = row * 7 + column
    for channel, position in ((2 * pair, row), (2 * pair + 1, row), (8 + 2 * pair, column), (8 + 2 * pair + 1, column)):
        angle = position * 14 / 7 * frequency
        assert cos[token, channel].item() == pytest.approx(math.cos(angle), abs=1e-5)
        assert sin[token, channel].item() == pytest.approx(math.sin(angle), abs=1e-5)


def test_rotation_keeps_lengths_of_pairs():
    rope = Rotary2d(16, 4)
    x = torch.randn(2, 16, 16)
    rotated = rotate_pairs(x, rope.tables((4, 4)))
    torch.testing.assert_close(rotated.unflatten(-1, (-1, 2)).norm(dim=-1), x.unflatten(-1, (-1, 2)).norm(dim=-1))


def test_rotation_turns_by_the_angle():
    rope = Rotary2d(4, 14)
    x = torch.zeros(1, 196, 4)
    x[..., 0] = 1
    rotated = rotate_pairs(x, rope.tables((14, 14)))[0, 14 * 2 + 3]
    torch.testing.assert_close(rotated, torch.tensor([math.cos(2), math.sin(2), 0, 0]))


def test_resizing_keeps_row_major_order():
    table = torch.arange(4.0).repeat_interleave(6).view(1, 24, 1)  # 4 rows of 6 columns, the value is the row
    resized = resize_table(table, (4, 6), (8, 3)).view(8, 3)
    torch.testing.assert_close(resized, resized[:, :1].expand(-1, 3))
    assert (resized[1:, 0] > resized[:-1, 0]).all()


def test_no_copy_without_need():
    table = torch.randn(1, 4, 8)
    assert resize_table(table, (2, 2), (2, 2)) is table


def test_tables_that_are_not_square_are_refused():
    with pytest.raises(ValueError, match='12 positions is not square'):
        square_grid(12)
