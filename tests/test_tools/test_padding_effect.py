import re

import pytest
import torch
from mmengine.config import Config

from mmlocalmamba.analysis.padding_effect import PaddingShare, resize_test_images, settings_of

DETECTOR = 'configs/demo/mask_rcnn_localvmamba_micro_shapes.py'
SEGMENTER = 'configs/demo/upernet_localvmamba_micro_shapes.py'


@pytest.fixture
def padding_effect(tool):
    return tool('analysis/padding_effect')


@pytest.mark.slow
def test_a_detector_is_evaluated_at_each_padding(padding_effect, det_config, model_state, capsys):
    torch.save({'state_dict': model_state(det_config)}, 'model.pth')
    padding_effect.main([str(det_config), 'model.pth', '--batch', '2', '--multiples', '128', '--work-dir', 'out'])
    head, _, *rows = capsys.readouterr().out.strip().splitlines()[-5:]
    assert re.split(r'\s{2,}', head.strip()) == ['test images', 'padding, %', 'box AP', 'mask AP']
    assert [re.split(r'\s{2,}', row)[:2] for row in rows] == [
        ['batch 1', '0'],  # 64 x 96 pixels
        ['batch 2', '0'],
        ['batch 1, multiples of 128', '62'],
    ]


def test_a_segmenter_is_evaluated_at_one_size(padding_effect, seg_config, model_state, capsys):
    torch.save({'state_dict': model_state(seg_config)}, 'model.pth')
    # Resized before the labels are loaded, as all test pipelines do: metrics are of the labels' own size.
    resize = "load = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(96, 64)), "
    seg_config.write_text(seg_config.read_text().replace("load = [dict(type='LoadImageFromFile'), ", resize))
    options = ['--resize', '30', '50', '--multiples', '64', '--work-dir', 'out']
    padding_effect.main([str(seg_config), 'model.pth', *options])
    *_, own, padded = capsys.readouterr().out.strip().splitlines()
    assert re.split(r'\s{2,}', own)[:2] == ['batch 1', '0']
    assert re.split(r'\s{2,}', padded)[:2] == ['batch 1, multiples of 64', '63']  # 30 x 50 of 64 x 64


def test_settings_change_what_the_package_reads(repo_dir):
    detector = settings_of(Config.fromfile(repo_dir / DETECTOR), 4, [192])
    assert [setting.name for setting in detector] == ['batch 1', 'batch 4', 'batch 1, multiples of 192']
    assert detector[2].options['model.data_preprocessor.pad_size_divisor'] == 192
    segmenter = settings_of(Config.fromfile(repo_dir / SEGMENTER), 4, [32])
    assert [setting.name for setting in segmenter] == ['batch 1', 'batch 1, multiples of 32']
    assert segmenter[1].options['model.data_preprocessor.test_cfg'] == {'size_divisor': 32}
    with pytest.raises(ValueError, match='default_scope is None'):
        settings_of(Config({}), 4, [])


def test_resizing_changes_the_test_pipeline_alone(repo_dir):
    cfg = Config.fromfile(repo_dir / SEGMENTER)
    resize_test_images(cfg, 191, 157)
    (step,) = (step for step in cfg.test_dataloader.dataset.pipeline if step.type == 'Resize')
    assert (step.scale, step.keep_ratio) == ((157, 191), False)
    cfg.test_dataloader.dataset.pipeline = [dict(type='LoadImageFromFile')]
    with pytest.raises(ValueError, match='no Resize step'):
        resize_test_images(cfg, 191, 157)


def test_padding_is_counted():
    model = torch.nn.ModuleDict({'backbone': torch.nn.Identity()})
    share = PaddingShare()
    share.watch(model)
    images = torch.zeros(2, 3, 10, 10)
    images[0, :, :5], images[1] = 1, 1
    model['backbone'](images)
    assert (share.padding, share.pixels, share.percent) == (50, 200, 25)


@pytest.mark.parametrize('option', ['--batch', '--multiples'])
def test_numbers_below_1_are_refused(padding_effect, option, capsys):
    with pytest.raises(SystemExit):
        padding_effect.parse_args(['config.py', 'model.pth', option, '0'])
    assert f'{option} wants positive numbers, got 0' in capsys.readouterr().err
