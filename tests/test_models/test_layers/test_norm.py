import torch
from mmcv.cnn import ConvModule, build_norm_layer
from torch import nn

from mmlocalmamba.models import LN2d


def test_channels_of_each_position_are_normalised():
    x = torch.randn(2, 5, 3, 4)
    norm = LN2d(5)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    mean, variance = x.mean(1, keepdim=True), x.var(1, correction=0, keepdim=True)
    wanted = (x - mean) / (variance + 1e-6).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(norm(x), wanted)


def test_mmcv_builds_it_by_name():
    name, norm = build_norm_layer(dict(type='mmlocalmamba.LN2d', eps=1e-3), 6)
    assert (name, norm.normalized_shape, norm.eps) == ('ln', (6,), 1e-3)


def test_a_convolution_before_it_has_no_bias():
    conv = ConvModule(3, 6, 1, norm_cfg=dict(type='mmlocalmamba.LN2d'))
    assert conv.conv.bias is None
    assert conv(torch.randn(1, 3, 2, 2)).shape == (1, 6, 2, 2)
