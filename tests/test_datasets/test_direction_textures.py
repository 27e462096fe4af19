import pytest
import torch

from mmlocalmamba.datasets import DirectionTextures


def images(**kwargs):
    dataset = DirectionTextures(num_images=400, **kwargs)
    items = [dataset[i] for i in range(len(dataset))]
    return torch.stack([item['inputs'] for item in items]), torch.tensor([item['labels'] for item in items])


def test_classes_differ_in_neighbours_along_the_axis():
    x, labels = images(axis='v', order=0.8)
    alike = (x[:, 0, 1:] == x[:, 0, :-1]).float().mean((1, 2))
    assert alike[labels == 0].mean().item() == pytest.approx(0.8, abs=0.02)
    assert alike[labels == 1].mean().item() == pytest.approx(0.2, abs=0.02)


def test_classes_do_not_differ_in_cells_nor_in_neighbours_across_the_axis():
    x, labels = images(axis='v', order=0.8)
    alike = (x[:, 0, :, 1:] == x[:, 0, :, :-1]).float().mean((1, 2))
    for label in (0, 1):
        assert alike[labels == label].mean().item() == pytest.approx(0.5, abs=0.03)
        assert x[labels == label].mean().item() == pytest.approx(0, abs=0.05)


def test_the_other_axis_is_the_transpose():
    torch.testing.assert_close(images(axis='h')[0], images(axis='v')[0].transpose(2, 3))


def test_the_seed_decides():
    assert torch.equal(images(seed=1)[0], images(seed=1)[0])
    assert not torch.equal(images(seed=1)[0], images(seed=2)[0])


@pytest.mark.parametrize('kwargs', [dict(axis='x'), dict(order=0.5), dict(grid=1), dict(num_images=0)])
def test_arguments_out_of_range_are_refused(kwargs):
    with pytest.raises(ValueError, match='axis=|want num_images'):
        DirectionTextures(**kwargs)
