import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

import mmlocalmamba  # noqa: F401
from mmlocalmamba.models import LN2d, SimpleFPN


def test_levels_have_strides_4_to_64():
    levels = SimpleFPN(in_channels=8, out_channels=16)((torch.randn(2, 8, 6, 10),))
    assert [tuple(level.shape) for level in levels] == [
        (2, 16, 24, 40),
        (2, 16, 12, 20),
        (2, 16, 6, 10),
        (2, 16, 3, 5),
        (2, 16, 2, 3),
    ]


def test_only_the_last_map_is_used():
    neck = SimpleFPN(in_channels=8, out_channels=16).eval()
    last = torch.randn(1, 8, 4, 4)
    for one, two in zip(neck([last]), neck([torch.randn(1, 3, 9, 9), last]), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize('num_outs', [4, 6])
def test_the_number_of_levels_can_be_chosen(num_outs):
    assert len(SimpleFPN(8, 16, num_outs=num_outs)((torch.randn(1, 8, 8, 8),))) == num_outs


def test_the_last_level_subsamples_the_one_before():
    levels = SimpleFPN(8, 16)((torch.randn(1, 8, 8, 8),))
    assert torch.equal(levels[4], levels[3][..., ::2, ::2])


def test_every_parameter_has_a_gradient():
    neck = SimpleFPN(8, 16)
    sum((level * torch.randn_like(level)).sum() for level in neck((torch.randn(1, 8, 5, 7),))).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in neck.parameters())


def test_norms_follow_the_setting():
    neck = SimpleFPN(8, 16, norm_cfg=dict(type='BN'))
    assert not any(isinstance(module, LN2d) for module in neck.modules())
    assert sum(isinstance(module, nn.BatchNorm2d) for module in neck.modules()) == 9


def test_it_is_found_by_name():
    neck = MODELS.build(dict(type='mmlocalmamba.SimpleFPN', in_channels=8, out_channels=16))
    assert isinstance(neck, SimpleFPN)


def test_an_unknown_argument_is_an_error():
    with pytest.raises(TypeError, match='backbone_channel'):
        SimpleFPN(in_channels=8, backbone_channel=8)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [(dict(in_channels=6), 'in_channels=6 must be a multiple of 4'), (dict(in_channels=8, num_outs=3), 'num_outs=3')],
)
def test_a_wrong_argument_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SimpleFPN(**arguments)


def test_a_map_of_another_width_is_refused():
    with pytest.raises(ValueError, match='the last map has 12 channels, but the neck was built with in_channels=8'):
        SimpleFPN(8)((torch.randn(1, 12, 4, 4),))
