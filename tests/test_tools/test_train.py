import pickle
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
    assert 'Training resumes from the last checkpoint in out' in log_of('out')


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


def test_resume_from_a_missing_file_is_refused(tool, det_config) -> None:
    with pytest.raises(FileNotFoundError, match=r'load_from = out/epoch_9.pth'):
        tool('train').main([str(det_config), '--resume', 'out/epoch_9.pth'])


def test_hostile_checkpoint_is_refused(tool, det_config, tmp_path) -> None:
    class Hostile:
        def __reduce__(self):
            return Path.mkdir, (tmp_path / 'ran',)

    torch.save({'state_dict': {}, 'meta': Hostile()}, 'hostile.pth', pickle_module=pickle)

    with pytest.raises(ValueError, match=f'{FORCE_SAFE}=0'):
        tool('train').main([str(det_config), '--resume', 'hostile.pth'])

    assert not (tmp_path / 'ran').exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason='mixed precision works here')
def test_amp_without_gpu_is_refused(tool, det_config) -> None:
    with pytest.raises(ValueError, match='--amp needs a GPU'):
        tool('train').main([str(det_config), '--amp'])


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
