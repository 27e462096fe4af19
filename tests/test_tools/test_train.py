import pickle
import re
from pathlib import Path

import pytest
import torch

from mmlocalmamba.compat.torch_load import FORCE_SAFE, register_safe_globals


def log_of(work_dir: str) -> str:
    return '\n'.join(path.read_text() for path in sorted(Path(work_dir).glob('*/*.log')))


def load(checkpoint: str) -> dict:
    register_safe_globals()
    return torch.load(checkpoint, weights_only=True)


def test_detector_trains_saves_and_resumes(tool, det_config) -> None:
    train = tool('train')

    train.main([str(det_config), '--work-dir', 'out'])

    assert Path('out/epoch_1.pth').is_file()
    assert 'No pretrained weights were given: the backbone ResNet' in log_of('out')

    train.main([str(det_config), '--work-dir', 'out', '--resume', '--cfg-options', 'train_cfg.max_epochs=2'])

    assert load('out/epoch_2.pth')['meta']['iter'] == 4
    assert re.search(r'Training resumes from \S*out/epoch_1.pth', log_of('out'))
    assert re.search(r'All \d+ tensors of the model were loaded from \S*out/epoch_1.pth', log_of('out'))


@pytest.mark.skipif(torch.cuda.is_available(), reason='mixed precision works here')
def test_config_in_mixed_precision_trains_in_float32_without_gpu(tool, det_config, capfd) -> None:
    assert 'AmpOptimWrapper' in det_config.read_text()

    tool('train').main([str(det_config), '--work-dir', 'out'])

    assert Path('out/epoch_1.pth').is_file()
    assert 'this run uses float32 on the CPU' in ''.join(capfd.readouterr())


def test_segmenter_trains_into_the_default_work_dir(tool, seg_config) -> None:
    tool('train').main([str(seg_config)])

    assert Path('work_dirs/fcn_tiny/iter_2.pth').is_file()


def test_missing_data_stop_it_before_anything_is_built(tool, det_config) -> None:
    Path('data/coco').rename('data/moved')

    with pytest.raises(FileNotFoundError, match='ann_file = data/coco/annotations/instances.json'):
        tool('train').main([str(det_config)])

    assert not Path('work_dirs').exists()


def test_missing_config_is_named(tool) -> None:
    with pytest.raises(FileNotFoundError, match=r"no config file 'configs/nothing.py'"):
        tool('train').main(['configs/nothing.py'])


def test_pretrained_option_is_checked(tool, det_config) -> None:
    with pytest.raises(FileNotFoundError, match=r'init_cfg.checkpoint = weights.pth'):
        tool('train').main([str(det_config), '--cfg-options', 'pretrained=weights.pth'])


def test_resume_with_nothing_there_says_so(tool, seg_config) -> None:
    tool('train').main([str(seg_config), '--work-dir', 'out', '--resume'])

    log = log_of('out')
    assert 'There is no checkpoint in out to resume from: the run starts from the beginning.' in log
    assert 'Auto resumed' not in log
    assert Path('out/iter_2.pth').is_file()


def test_damaged_checkpoints_stop_it_before_anything_is_built(tool, det_config) -> None:
    Path('out').mkdir()
    torch.save({'state_dict': {'weight': torch.zeros(99)}}, 'out/epoch_1.pth')
    Path('out/epoch_1.pth').write_bytes(Path('out/epoch_1.pth').read_bytes()[:-100])

    with pytest.raises(ValueError, match='no checkpoint in out is whole .*epoch_1.pth: it is cut off after'):
        tool('train').main([str(det_config), '--work-dir', 'out', '--resume'])
    for key in ('load_from', 'pretrained'):
        with pytest.raises(ValueError, match='out/epoch_1.pth: the file is damaged, it is cut off after'):
            tool('train').main([str(det_config), '--cfg-options', f'{key}=out/epoch_1.pth'])


def test_resume_from_a_missing_file_is_refused(tool, det_config) -> None:
    with pytest.raises(FileNotFoundError, match=r'load_from = out/epoch_9.pth'):
        tool('train').main([str(det_config), '--resume', 'out/epoch_9.pth'])


def test_the_log_accounts_for_the_tensors_that_training_starts_from(tool, seg_config, model_state) -> None:
    state = model_state(seg_config)
    torch.save({'state_dict': state}, 'whole.pth')
    state['decode_head.conv_seg.weight'] = torch.zeros(5, 8, 1, 1)  # a head for other classes
    del state['decode_head.conv_seg.bias']
    torch.save({'state_dict': state}, 'other_head.pth')

    tool('train').main([str(seg_config), '--work-dir', 'whole', '--cfg-options', 'load_from=whole.pth'])
    tool('train').main([str(seg_config), '--work-dir', 'head', '--cfg-options', 'load_from=other_head.pth'])

    assert re.search(r'All \d+ tensors of the model were loaded from whole.pth', log_of('whole'))
    total = sum(not name.endswith('num_batches_tracked') for name in model_state(seg_config))
    assert (
        f'{total - 2} of {total} tensors of the model were loaded from other_head.pth. The others keep their initial '
        'values: decode_head.conv_seg.weight, which has shape (5, 8, 1, 1) in the checkpoint and (2, 8, 1, 1) in the '
        'model, decode_head.conv_seg.bias' in log_of('head')
    )
    assert 'whole model' not in log_of('head')


def test_a_checkpoint_of_which_nothing_fits_is_refused(tool, seg_config, model_state) -> None:
    """A bare backbone's, for example, whose names lack the prefix."""
    state = {
        name.removeprefix('backbone.'): value
        for name, value in model_state(seg_config).items()
        if name.startswith('backbone.')
    }
    torch.save({'state_dict': state}, 'backbone.pth')

    with pytest.raises(ValueError, match=r'no tensor of backbone.pth fits this model.*backbone\.stem.*pretrained='):
        tool('train').main([str(seg_config), '--work-dir', 'out', '--cfg-options', 'load_from=backbone.pth'])


def test_resuming_another_model_is_refused(tool, seg_config) -> None:
    tool('train').main([str(seg_config), '--work-dir', 'out'])

    options = ['--cfg-options', 'model.decode_head.channels=16', 'train_cfg.max_iters=3']
    with pytest.raises(ValueError, match=r'not hold this whole model: .*conv_seg.weight, which has shape'):
        tool('train').main([str(seg_config), '--work-dir', 'out', '--resume', 'out/iter_2.pth', *options])


def test_hostile_checkpoint_is_refused(tool, det_config, tmp_path) -> None:
    class Hostile:
        def __reduce__(self):
            return Path.mkdir, (tmp_path / 'ran',)

    torch.save({'state_dict': {}, 'meta': Hostile()}, 'hostile.pth', pickle_module=pickle)

    with pytest.raises(ValueError, match=f'{FORCE_SAFE}=0'):
        tool('train').main([str(det_config), '--resume', 'hostile.pth'])

    assert not (tmp_path / 'ran').exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason='mixed precision works here')
@pytest.mark.slow
def test_amp_without_gpu_trains_and_evaluates_in_bfloat16(tool, det_config, capfd) -> None:
    """The metric reads predictions with NumPy, which has no bfloat16."""
    tool('train').main([str(det_config), '--amp', '--work-dir', 'out', '--cfg-options', 'val_cfg.fp16=True'])

    out = ''.join(capfd.readouterr())
    assert 'the forward uses bfloat16 on the CPU' in out
    assert 'coco/segm_mAP' in out
    weights = load('out/epoch_1.pth')['state_dict'].values()
    assert all(value.isfinite().all() and value.dtype != torch.bfloat16 for value in weights)


def test_an_error_of_the_model_comes_before_the_log(tool, det_config, capfd) -> None:
    with pytest.raises(TypeError, match='nonsense'):
        tool('train').main([str(det_config), '--cfg-options', 'model.rpn_head.nonsense=1'])

    assert 'System environment' not in ''.join(capfd.readouterr())


def test_auto_scale_lr_needs_a_base_batch(tool, seg_config) -> None:
    with pytest.raises(ValueError, match='base_batch_size'):
        tool('train').main([str(seg_config), '--auto-scale-lr'])


def test_auto_scale_lr_scales(tool, det_config) -> None:
    tool('train').main([str(det_config), '--auto-scale-lr', '--work-dir', 'out'])

    optimizer = load('out/epoch_1.pth')['optimizer']
    assert optimizer['param_groups'][0]['lr'] == pytest.approx(0.001 * 2 / 16)


def test_unknown_argument_is_refused(tool, det_config) -> None:
    with pytest.raises(SystemExit):
        tool('train').main([str(det_config), '--epochs', '3'])
