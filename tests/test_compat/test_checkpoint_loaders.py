"""Strangers' files in the doors of the mm packages, which load them by MMEngine."""

import os
import subprocess
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
import torch

import mmlocalmamba  # before any mm package
from mmlocalmamba.compat.checkpoint_loaders import FINDER, REFUSAL, without_config
from mmlocalmamba.compat.torch_load import FORCE_SAFE

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = {
    'detector': str(ROOT / 'configs/demo/mask_rcnn_localvmamba_micro_shapes.py'),
    'segmenter': str(ROOT / 'configs/demo/upernet_localvim_micro_shapes.py'),
}


@pytest.fixture(autouse=True)
def clean_process(tmp_path, monkeypatch) -> None:
    """Start in an empty folder, without the user's choice."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(FORCE_SAFE, raising=False)


class Hostile:
    """Makes a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, (os.path.abspath('ran'),)


def hostile() -> str:
    torch.save({'state_dict': {'weight': torch.ones(1)}, 'meta': {'stranger': Hostile()}}, 'hostile.pth')
    return 'hostile.pth'


def with_config(key: str = 'cfg') -> str:
    """Save a checkpoint whose config makes a folder, in both places where MMEngine looks."""
    text = f'import os\nos.mkdir({os.path.abspath("ran")!r})\nmodel = dict()\n'
    hub = {'log_scalars': {}, 'runtime_info': {'cfg': text, 'epoch': 3}, 'resumed_keys': {}}
    torch.save({'state_dict': {'weight': torch.ones(1)}, 'meta': {key: text}, 'message_hub': hub}, 'config.pth')
    return 'config.pth'


def doors():
    """Give what loads a checkpoint in each of the mm packages, as a function of it."""
    from mmdet.apis import DetInferencer, init_detector
    from mmengine.model import BaseModule
    from mmengine.runner import load_checkpoint
    from mmseg.apis import MMSegInferencer, init_model

    detector, segmenter = CONFIGS['detector'], CONFIGS['segmenter']
    return {
        'DetInferencer': lambda file: DetInferencer(detector, file, device='cpu'),
        'MMSegInferencer': lambda file: MMSegInferencer(segmenter, file, device='cpu'),
        'init_detector': lambda file: init_detector(detector, file, device='cpu', palette='none'),
        'init_model': lambda file: init_model(segmenter, file, device='cpu'),
        'load_checkpoint': lambda file: load_checkpoint(torch.nn.Linear(1, 1), file),
        'init_cfg': lambda file: BaseModule(dict(type='Pretrained', checkpoint=file)).init_weights(),
    }


@pytest.mark.parametrize(
    'door', ['DetInferencer', 'MMSegInferencer', 'init_detector', 'init_model', 'load_checkpoint', 'init_cfg']
)
def test_a_hostile_file_does_nothing(door) -> None:
    with pytest.raises(ValueError, match=r'hostile.pth is no checkpoint, or holds objects whose loading can run code'):
        doors()[door](hostile())
    assert not os.path.exists('ran')


@pytest.mark.parametrize('door', ['DetInferencer', 'MMSegInferencer'])
def test_the_config_in_a_file_is_not_run(door) -> None:
    from mmdet.apis import DetInferencer
    from mmseg.apis import MMSegInferencer

    inferencer = {'DetInferencer': DetInferencer, 'MMSegInferencer': MMSegInferencer}[door]
    with pytest.raises(ValueError, match='the config that a checkpoint carries is a program, and is not run'):
        inferencer(model=None, weights=with_config(), device='cpu')
    assert not os.path.exists('ran')


def test_what_else_a_checkpoint_says_stays() -> None:
    from mmengine.runner import CheckpointLoader

    checkpoint = CheckpointLoader.load_checkpoint(with_config('config'))

    assert checkpoint['meta'] == {}  # MMEngine's Runner runs meta['config'] on resuming
    assert checkpoint['message_hub']['runtime_info'] == {'epoch': 3}
    assert torch.equal(checkpoint['state_dict']['weight'], torch.ones(1))
    assert without_config({'meta': {'cfg': 'a = 1', 'epoch': 2}})['meta'] == {'cfg': REFUSAL, 'epoch': 2}


def test_who_trusts_a_file_gets_it_whole(monkeypatch) -> None:
    from mmengine.runner import CheckpointLoader

    monkeypatch.setenv(FORCE_SAFE, '0')
    assert 'import os' in CheckpointLoader.load_checkpoint(with_config())['meta']['cfg']
    CheckpointLoader.load_checkpoint(hostile())
    assert os.path.exists('ran')


def test_the_process_may_load_its_own_files_as_before() -> None:
    torch.load(hostile(), weights_only=False)
    assert os.path.exists('ran')
    assert FORCE_SAFE not in os.environ


def test_a_file_in_pytorchs_cache_is_checked_too(tmp_path, monkeypatch) -> None:
    from mmengine.runner import CheckpointLoader

    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    Path('checkpoints').mkdir()
    Path(hostile()).rename('checkpoints/a.pth')
    with pytest.raises(ValueError, match='a.pth is no checkpoint, or holds objects'):
        CheckpointLoader.load_checkpoint('https://example.org/a.pth')
    assert not os.path.exists('ran')


def test_other_schemes_load_in_the_safe_way(monkeypatch) -> None:
    checkpoint = import_module('mmengine.runner.checkpoint')
    backend = type('Backend', (), {'get': lambda self, name: Path(name.removeprefix('s3://')).read_bytes()})
    monkeypatch.setattr(checkpoint, 'get_file_backend', lambda *args, **kwargs: backend())
    with pytest.raises(Exception, match='Weights only load failed|weights_only|weights only'):
        checkpoint.CheckpointLoader.load_checkpoint(f's3://{hostile()}')
    assert not os.path.exists('ran')
    assert FORCE_SAFE not in os.environ


def test_the_loaders_are_registered_once() -> None:
    checkpoint = import_module('mmengine.runner.checkpoint')
    before = dict(checkpoint.CheckpointLoader._schemes)
    mmlocalmamba.compat.install()
    assert before == checkpoint.CheckpointLoader._schemes
    assert sys.meta_path.count(FINDER) == 1


@pytest.mark.slow
@pytest.mark.parametrize('first', ['', 'import mmseg.apis, mmlocalmamba'])
def test_a_process_of_ones_own(first, tmp_path) -> None:
    hostile()
    code = (
        f'{first}\nfrom mmseg.apis import MMSegInferencer\nMMSegInferencer({CONFIGS["segmenter"]!r}, "hostile.pth")\n'
    )
    run = partial(subprocess.run, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, 'LANG': 'C'})
    assert 'holds objects whose loading can run code' in run([sys.executable, '-c', code]).stderr
    assert not os.path.exists('ran')
