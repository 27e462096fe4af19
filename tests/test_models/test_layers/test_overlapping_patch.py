import pytest
import torch
import torch.nn.functional as F

from mmlocalmamba.models.layers.overlapping_patch import ConvDownsample, ConvStem


@pytest.mark.parametrize('size', [(4, 6), (5, 7), (1, 2)])
def test_downsampling_is_a_convolution_and_a_norm_of_channels(size):
    layer = ConvDownsample(3, 8)
    x = torch.randn(2, *size, 3)
    expected = F.conv2d(x.permute(0, 3, 1, 2), layer.conv.weight, layer.conv.bias, stride=2, padding=1)
    expected = F.layer_norm(expected.permute(0, 2, 3, 1), (8,))
    assert expected.shape == (2, (size[0] + 1) // 2, (size[1] + 1) // 2, 8)
    torch.testing.assert_close(layer(x), expected)


def test_a_pixel_outside_of_a_patch_reaches_it():
    stem = ConvStem(3, 8)
    image = torch.randn(1, 3, 16, 16)
    other = image.clone()
    other[..., 3, 3] += 1  # in the first patch of 4 x 4, and near the others
    changed = (stem(image) != stem(other)).any(-1)[0]
    assert changed[:2, :2].all()
    assert not changed[2:].any()


@pytest.mark.parametrize(
    ('shape', 'message'),
    [((1, 3, 3, 0), '3 x 0 pixels'), ((1, 1, 8, 8), '1 channels')],
)
def test_bad_images_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        ConvStem(3, 8)(torch.zeros(shape))
