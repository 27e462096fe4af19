import pytest
import torch
from mmengine.registry import MODELS

import mmlocalmamba  # noqa: F401  isort: skip  before mmdet

from mmdet.structures import DetDataSample
from mmseg.structures import SegDataSample

DET = dict(type='mmdet.DetDataPreprocessor', pad_size_divisor=32)
SEG = dict(type='mmseg.SegDataPreProcessor', size=(32, 64), pad_val=0, seg_pad_val=255)


def build(inner=DET, channels=5, **settings):
    settings = dict(mean=[0.1 * i for i in range(channels)], std=[1.0 + i for i in range(channels)]) | settings
    return MODELS.build(dict(type='mmlocalmamba.MultispectralDataPreprocessor', data_preprocessor=inner, **settings))


@pytest.mark.parametrize('dtype', [torch.uint8, torch.uint16, torch.int16, torch.float32])
@pytest.mark.parametrize(('inner', 'sample'), [(DET, DetDataSample), (SEG, SegDataSample)], ids=['mmdet', 'mmseg'])
def test_images_are_normalised_and_then_padded(inner, sample, dtype):
    image = torch.randint(0, 200, (5, 20, 40)).to(dtype)
    data = dict(inputs=[image], data_samples=[sample()])
    out = build(inner, scale=200)(data, training=inner is DET)
    mean, std = torch.arange(5.0).view(-1, 1, 1) / 10, torch.arange(1.0, 6).view(-1, 1, 1)
    inputs = out['inputs'] if torch.is_tensor(out['inputs']) else out['inputs'][0]
    torch.testing.assert_close(inputs[0, :, :20, :40], (image.float() / 200 - mean) / std)
    assert (inputs[0, :, 20:] == 0).all()
    assert (inputs[0, :, :, 40:] == 0).all()
    if inner is DET:
        assert inputs.shape == (1, 5, 32, 64)
        assert out['data_samples'][0].batch_input_shape == (32, 64)


def test_three_channels_give_what_the_inner_preprocessor_gives_alone():
    settings = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)
    data = dict(inputs=[torch.randint(0, 256, (3, 20, 40), dtype=torch.uint8)], data_samples=[DetDataSample()])
    wanted = MODELS.build(DET | settings)(data)['inputs']
    torch.testing.assert_close(build(channels=3, **settings)(data)['inputs'], wanted)


def test_a_batch_may_come_stacked():
    batch = torch.randint(0, 200, (2, 5, 32, 32))
    torch.testing.assert_close(
        build()(dict(inputs=batch))['inputs'], build()(dict(inputs=list(batch)))['inputs'], atol=0, rtol=0
    )


def test_images_of_other_channels_are_refused_with_both_numbers():
    with pytest.raises(ValueError, match=r'an image is \(3, 8, 8\), but the data preprocessor has the mean of 5'):
        build()(dict(inputs=[torch.zeros(3, 8, 8)]))


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(bgr_to_rgb=True), 'bgr_to_rgb=True is for images of 3 channels, not 5'),
        (dict(std=[1.0]), 'got 5 means, 1 stds'),
        (dict(std=[1.0, 1.0, 0.0, 1.0, 1.0]), 'one positive std per channel'),
        (dict(scale=0), 'scale=0'),
        (dict(inner=DET | dict(bgr_to_rgb=True)), r"\['bgr_to_rgb'\] of the inner data_preprocessor"),
        (dict(inner=DET | dict(mean=[1.0], std=[1.0])), r"\['mean', 'std'\] of the inner data_preprocessor"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)
