"""Patch embedding and merging."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmlocalmamba.models.layers.patch import PatchEmbed, PatchMerging

pytestmark = pytest.mark.usefixtures('on_each_device')


@pytest.mark.parametrize(
    ('size', 'expected'), [((8, 8), (2, 2)), ((9, 15), (3, 4)), ((4, 31), (1, 8)), ((1, 3), (1, 1))]
)
def test_no_pixel_is_dropped(size, expected):
    assert PatchEmbed(3, 6, 4, norm=True)(torch.randn(1, 3, *size)).shape == (1, *expected, 6)


@pytest.mark.parametrize('size', [(2, 2), (5, 4), (3, 7), (1, 1)])
def test_merging_joins_neighbours_in_the_published_order(size):
    merging = PatchMerging(4, 2 * 4)
    merging.norm = torch.nn.Identity()
    merging.reduction = torch.nn.Identity()
    x = torch.randn(2, *size, 4)
    height, width = -(-size[0] // 2), -(-size[1] // 2)
    padded = torch.zeros(2, 2 * height, 2 * width, 4)
    padded[:, : size[0], : size[1]] = x
    expected = [padded[:, row::2, column::2] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))]
    torch.testing.assert_close(merging(x), torch.cat(expected, -1))


class Pads(TorchDispatchMode):
    """Counts the copies that padding makes."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten.constant_pad_nd.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ('module', 'shape', 'copies'),
    [
        (PatchEmbed(3, 6, 4, norm=True), (1, 3, 8, 12), 0),
        (PatchEmbed(3, 6, 4, norm=True), (1, 3, 8, 11), 1),
        (PatchMerging(4, 8), (1, 8, 6, 4), 0),
        (PatchMerging(4, 8), (1, 7, 6, 4), 1),
    ],
)
def test_only_what_needs_padding_is_copied_for_it(module, shape, copies):
    with Pads() as pads:
        module(torch.randn(shape))
    assert pads.count == copies
