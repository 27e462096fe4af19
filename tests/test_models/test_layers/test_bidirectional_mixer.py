import torch
import torch.nn.functional as F

from mmlocalmamba.models.layers.bidirectional_mixer import BidirectionalMixer, MeanMerge
from mmlocalmamba.models.layers.ss2d import SS2D
from mmlocalmamba.ops import depthwise_conv2d_silu


def test_both_directions_are_gated_alike_and_averaged():
    y, z = torch.randn(2, 2, 5, 8), torch.randn(2, 5, 8)
    torch.testing.assert_close(MeanMerge(8)(y, z), (y * F.silu(z)[:, None]).sum(1) / 2)


def test_it_has_no_parameters_of_attention():
    names = dict(BidirectionalMixer(16).named_parameters())
    assert not any(name.startswith('merge') for name in names)
    assert names['A_log'].shape == (2, 32, 16)


def test_a_mixer_without_a_gate_normalises_the_sum_alone():
    mixer = SS2D(16, ('h', 'v_flip'), d_state=1, ssm_ratio=1.0, attn=False, gate=False, conv_bias=False)
    x = torch.randn(2, 4, 5, 16)
    with torch.no_grad():
        scanned = depthwise_conv2d_silu(F.linear(x, mixer.in_proj.weight), mixer.conv.weight)
        y = mixer.scan(scanned.flatten(1, 2), 4, 5)
        expected = F.linear(F.layer_norm(y.sum(1), (16,)), mixer.out_proj.weight).unflatten(1, (4, 5))
        torch.testing.assert_close(mixer(x), expected)
