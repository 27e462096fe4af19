"""Weights of RGB images in backbones for images of other channels."""

import logging

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.runner.checkpoint import load_checkpoint
from timm.models import adapt_input_conv
from torch import nn

from mmlocalmamba.analysis.flops import count_model, input_channels
from mmlocalmamba.engine.hooks.kernel_tuning import KernelTuningHook
from mmlocalmamba.models import ConvNeXt, LocalVim, LocalVMamba, Vim, VMamba

BACKBONES = {
    'LocalVMamba': lambda **settings: LocalVMamba('micro', **settings),
    'LocalVim': lambda **settings: LocalVim('micro', img_size=32, patch_size=8, out_indices=(0, 1), **settings),
    'Vim': lambda **settings: Vim('micro', img_size=32, patch_size=8, out_indices=(0, 1), **settings),
    'VMamba vanilla': lambda **settings: VMamba('micro', **settings),
    'VMamba v2': lambda **settings: VMamba('micro_s1l2', **settings),
    'ConvNeXt': lambda **settings: ConvNeXt(out_indices=(0,), **settings),
}
FIRST = {'VMamba v2': 'patch_embed.first.conv.weight', 'ConvNeXt': 'stem.0.weight'}


class Detector(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone


@pytest.fixture(params=BACKBONES)
def name(request):
    return request.param


@pytest.fixture
def log(caplog):
    """MMEngine's log, which does not reach the root logger by itself."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO)
    yield caplog
    logger.removeHandler(caplog.handler)


def rgb_and_other(name, channels, folder):
    """Give a backbone of RGB images, and one of other channels that starts from its weights."""
    torch.manual_seed(0)
    rgb = BACKBONES[name]().eval()
    torch.save(rgb.state_dict(), folder / 'rgb.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(folder / 'rgb.pth'))
    other = BACKBONES[name](in_channels=channels, init_cfg=init_cfg).eval()
    other.init_weights()
    return rgb, other


def first(backbone, name):
    return backbone.state_dict()[FIRST.get(name, 'patch_embed.proj.weight')]


def test_a_gray_image_gives_what_its_rgb_copy_gives(name, tmp_path, log):
    rgb, gray = rgb_and_other(name, 1, tmp_path)
    image = torch.randn(1, 1, 32, 40)
    with torch.no_grad():
        wanted, features = rgb(image.expand(-1, 3, -1, -1)), gray(image)
    for want, feature in zip(wanted, features, strict=True):
        torch.testing.assert_close(feature, want, atol=1e-5, rtol=0)
    assert 'adapted from 3 to 1 input channels: summed over them' in log.text


@pytest.mark.parametrize('channels', [2, 4, 13])
def test_weights_are_repeated_and_scaled_as_timm_does(name, channels, tmp_path, log):
    rgb, other = rgb_and_other(name, channels, tmp_path)
    assert torch.equal(first(other, name), adapt_input_conv(channels, first(rgb, name)))
    torch.testing.assert_close(first(other, name)[:, 0], first(rgb, name)[:, 0] * 3 / channels)
    assert f'adapted from 3 to {channels} input channels: repeated and scaled by 3/{channels}' in log.text
    with torch.no_grad():
        assert all(torch.isfinite(feature).all() for feature in other(torch.randn(1, channels, 32, 32)))


def test_a_whole_model_is_adapted_when_it_is_loaded(name, tmp_path, log):
    torch.save({'state_dict': Detector(BACKBONES[name]()).state_dict()}, tmp_path / 'rgb.pth')
    rgb = torch.load(tmp_path / 'rgb.pth')['state_dict']
    other = Detector(BACKBONES[name](in_channels=4))
    load_checkpoint(other, str(tmp_path / 'rgb.pth'))
    wanted = adapt_input_conv(4, rgb['backbone.' + FIRST.get(name, 'patch_embed.proj.weight')])
    assert torch.equal(first(other.backbone, name), wanted)
    assert 'adapted from 3 to 4 input channels' in log.text


@pytest.mark.parametrize('channels', [1, 3])
def test_other_weights_than_of_rgb_images_are_refused(name, channels, tmp_path):
    torch.save(BACKBONES[name](in_channels=4).state_dict(), tmp_path / 'four.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'four.pth'))
    backbone = BACKBONES[name](in_channels=channels, init_cfg=init_cfg)
    with pytest.raises(ValueError, match=rf'images with 4 channels .* in_channels={channels}.*Set in_channels=4'):
        backbone.init_weights()


def test_weights_of_as_many_channels_are_taken_as_they_are(name, tmp_path):
    four = BACKBONES[name](in_channels=4)
    torch.save(four.state_dict(), tmp_path / 'four.pth')
    same = BACKBONES[name](in_channels=4, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'four.pth')))
    same.init_weights()
    assert torch.equal(first(same, name), first(four, name))


def test_flops_are_counted_with_the_backbones_channels(name):
    def flops(channels):
        backbone = BACKBONES[name](in_channels=channels)
        assert input_channels(backbone) == channels
        return sum(part.flops for part in count_model(backbone, 32, 32))

    assert flops(13) - flops(4) == 9 * (flops(4) - flops(3)) > 0


@pytest.mark.parametrize('name', sorted(BACKBONES.keys() - {'ConvNeXt'}), indirect=True)
def test_kernels_are_tuned_with_the_backbones_channels(name):
    backbone = BACKBONES[name](in_channels=5)
    seen = []
    backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[1]))
    KernelTuningHook([(32, 32)], batch_size=1)._step(backbone, torch.device('cpu'))
    assert seen == [5]
