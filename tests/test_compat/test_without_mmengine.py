"""The backbones where PyTorch and timm are all there is."""

import os
import subprocess
import sys

import pytest
import torch

HIDE = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        blocked = ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'cv2')
        return None if name.split('.')[0] in blocked else PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [Without if finder is PathFinder else finder for finder in sys.meta_path]
"""


def run(code: str, repo_dir) -> list[str]:
    path = os.pathsep.join([str(repo_dir), os.environ.get('PYTHONPATH', '')])
    done = subprocess.run(
        [sys.executable, '-c', HIDE + code], env={**os.environ, 'PYTHONPATH': path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint as MMEngine's Runner writes it: a detector's tensors, a config and a log."""
    from mmengine.config import ConfigDict
    from mmengine.logging import HistoryBuffer

    from mmlocalmamba.models import LocalVMamba

    history = HistoryBuffer()
    history.update(0.5)
    state = {f'backbone.{name}': value for name, value in LocalVMamba('micro').state_dict().items()}
    path = tmp_path / 'runner.pth'
    content = {'state_dict': state, 'meta': {'cfg': ConfigDict(a=1)}, 'message_hub': {'log': {'loss': history}}}
    torch.save(content, path)
    return path


@pytest.mark.slow
def test_backbones_train_and_load_what_a_run_has_saved(repo_dir, checkpoint) -> None:
    code = f"""
import torch, mmlocalmamba
model = mmlocalmamba.models.LocalVMamba('micro', init_cfg=dict(type='Pretrained', checkpoint={str(checkpoint)!r}))
model.init_weights()
sum(output.mean() for output in model(torch.rand(1, 3, 32, 32))).backward()
print(float(sum(value.double().sum() for value in model.state_dict().values())))
model = mmlocalmamba.models.LocalVim('micro', img_size=32, out_indices=(3,))
model.init_weights()
print(len(model(torch.rand(1, 3, 32, 48))))
for use in (lambda: mmlocalmamba.models.ImageClassifier, lambda: mmlocalmamba.models.SimpleFPN(8),
            lambda: mmlocalmamba.registry.MODELS.build(dict(type='LocalVim')),
            mmlocalmamba.models.LocalVMamba('micro', init_cfg=dict(type='Kaiming')).init_weights):
    try:
        use()
    except ModuleNotFoundError as error:
        print(error)
try:
    mmlocalmamba.models.Nothing
except AttributeError as error:
    print(error)
"""
    total, outputs, *errors = run(code, repo_dir)
    state = torch.load(checkpoint, weights_only=False)['state_dict']
    assert float(total) == float(sum(value.double().sum() for value in state.values()))
    assert outputs == '1'
    how = "pip install 'mmlocalmamba[mminstall]' installs the mm packages"
    assert errors[0].startswith(f'mmlocalmamba.models.ImageClassifier is built on MMEngine, which is missing: {how}')
    assert errors[1].startswith(f'SimpleFPN is built of layers of mmcv, which is missing: {how}')
    assert errors[2].startswith(f'building a model from a config needs MMEngine: {how}')
    assert errors[3].startswith(f"init_cfg={{'type': 'Kaiming'}} names an initialiser of MMEngine: {how}")
    assert errors[4] == "module 'mmlocalmamba.models' has no attribute 'Nothing'"


def test_subpackages_are_attributes(repo_dir) -> None:
    code = "import mmlocalmamba; print('models' in dir(mmlocalmamba), mmlocalmamba.models.LocalVim.__name__)"
    assert run(code, repo_dir) == ['True LocalVim']


@pytest.mark.slow
def test_timm_builds_them(repo_dir) -> None:
    code = "import mmlocalmamba.timm, timm; print(timm.create_model('local_vmamba_micro', num_classes=4).num_classes)"
    assert run(code, repo_dir) == ['4']
