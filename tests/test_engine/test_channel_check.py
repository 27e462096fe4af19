from pathlib import Path

import pytest
from mmengine.config import Config

from mmlocalmamba.engine.channel_check import check_channels

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
PLAIN = 'mask_rcnn_localvmamba_t_1x.py'
MULTISPECTRAL = ('multispectral/mask_rcnn_localvmamba_t_13ch.py', 'multispectral/upernet_localvmamba_t_13ch.py')


def read(name, **options):
    cfg = Config.fromfile(CONFIGS / name)
    cfg.merge_from_dict({key.replace('__', '.'): value for key, value in options.items()})
    return cfg


@pytest.mark.parametrize('name', [PLAIN, *MULTISPECTRAL, 'imagenet/local_vim_t.py'])
def test_our_configs_pass(name):
    check_channels(read(name))


@pytest.mark.parametrize(
    ('name', 'options', 'message'),
    [
        (
            PLAIN,
            dict(model__backbone__in_channels=5),
            r'in_channels=5, but model\.data_preprocessor\.bgr_to_rgb=True keeps three channels and drops all others',
        ),
        (
            PLAIN,
            dict(model__backbone__in_channels=5, model__data_preprocessor__bgr_to_rgb=False),
            r'in_channels=5, but model\.data_preprocessor\.mean has 3 values',
        ),
        (
            MULTISPECTRAL[0],
            dict(model__backbone__in_channels=4),
            r'in_channels=4, but model\.data_preprocessor\.mean has 13 values',
        ),
        (
            MULTISPECTRAL[1],
            dict(train_dataloader__dataset__pipeline={'0': dict(channels=12)}),
            r'train_dataloader\.dataset\.pipeline\[0\] .*gives images of 12 channels',
        ),
    ],
)
def test_channels_that_do_not_agree_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        check_channels(read(name, **options))


def test_a_wrapped_data_set_that_reads_rgb_is_found():
    cfg = read(MULTISPECTRAL[0])
    inner = cfg.train_dataloader.dataset
    inner.pipeline[0] = dict(type='LoadImageFromFile')
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=inner)
    with pytest.raises(ValueError, match=r'dataset\.dataset\.pipeline\[0\] .*LoadImageFromFile.* 3 channels'):
        check_channels(cfg)


def test_gray_images_may_be_read_as_such():
    cfg = read(PLAIN, model__backbone__in_channels=1, model__data_preprocessor__bgr_to_rgb=False)
    cfg.model.data_preprocessor.update(mean=[116.0], std=[57.0])
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.pipeline[0].color_type = 'grayscale'
    check_channels(cfg)
    cfg.val_dataloader.dataset.pipeline[0].color_type = 'color'
    with pytest.raises(ValueError, match=r"in_channels=1, but val_dataloader.*color_type='grayscale'"):
        check_channels(cfg)
