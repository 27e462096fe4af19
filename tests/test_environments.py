"""Programs of a user in surroundings that are not a developer's: other processes, locales, folders and packages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

STEP = """
import torch
from mmlocalmamba.models import LocalVim, LocalVMamba
def step(side=40):
    torch.manual_seed(0)
    sums = []
    plain = LocalVim('micro', img_size=side, out_indices=(3,), drop_path_rate=0.0)
    for model in (LocalVMamba('micro', drop_path_rate=0.0), plain):
        sum(output.square().mean() for output in model(torch.randn(2, 3, side, side))).backward()
        sums.append(sum(float(parameter.grad.double().abs().sum()) for parameter in model.parameters()))
    return sums
"""
EVERYWHERE = f"""{STEP}
import multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor
if __name__ == '__main__':
    before = step()
    for method in sys.argv[1:]:
        with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
            assert list(pool.map(step, [40, 40])) == [before, before], method
    print('the same')
"""
HIDE = """
import sys
from importlib.abc import MetaPathFinder
class Hide(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {hidden!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)
sys.meta_path.insert(0, Hide())
"""


def run(code: str, folder: Path, *arguments: str, **environment: str) -> str:
    """Run a program in a process of its own and in a folder; returns what it printed."""
    program = folder / 'program.py'
    program.write_text(code, encoding='utf-8')
    done = subprocess.run(
        [sys.executable, *arguments[:-1], str(program), *arguments[-1:]],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize('method', ['fork', 'spawn'])
def test_workers_compute_what_their_parent_computes(tmp_path, method) -> None:
    assert run(EVERYWHERE, tmp_path, method) == 'the same\n'


@pytest.mark.slow
def test_four_processes_may_be_the_first_ones_at_once(tmp_path) -> None:
    program = tmp_path / 'program.py'
    program.write_text(f'{STEP}\nprint(step())')
    environment = {**os.environ, 'HOME': str(tmp_path), 'XDG_CACHE_HOME': str(tmp_path / 'cache')}
    running = [
        subprocess.Popen([sys.executable, str(program)], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    printed = [process.communicate(timeout=300)[0] for process in running]
    assert [process.returncode for process in running] == [0] * 4
    assert len(set(printed)) == 1
    assert printed[0].startswith('[')


@pytest.mark.slow
def test_nothing_needs_a_home_or_a_temporary_folder_to_write_in(tmp_path) -> None:
    # Below a file no folder can be made, not even by root.
    nowhere = tmp_path / 'file'
    nowhere.write_text('')
    unwritable = dict.fromkeys(('HOME', 'XDG_CACHE_HOME', 'TMPDIR', 'TORCH_HOME'), str(nowhere / 'folder'))
    assert run(f'{STEP}\nprint(len(step()))', tmp_path, '-B', '', **unwritable) == '2\n'


@pytest.mark.slow
def test_the_backbones_need_no_more_than_they_use(tmp_path) -> None:
    # What holds without all of the mm packages is in test_compat/test_without_mmengine.py.
    hidden = ('mmdet', 'mmseg', 'triton', 'matplotlib', 'scipy', 'pycocotools')
    assert run(f'{HIDE.format(hidden=hidden)}{STEP}\nprint(len(step()))', tmp_path, '') == '2\n'


@pytest.mark.slow
def test_errors_stay_without_assertions(tmp_path) -> None:
    code = """
import torch
from mmlocalmamba.models import LocalVMamba
from mmlocalmamba.ops import ScanInputs, local_selective_scan
def refused(function, *arguments, **settings):
    try:
        function(*arguments, **settings)
    except (TypeError, ValueError, RuntimeError) as error:
        return bool(str(error))
    return False
scan = dict(u=torch.ones(1, 4, 2), dt=torch.ones(1, 4, 1, 2), A=torch.ones(1, 2, 3), B=torch.ones(1, 4, 1, 3),
            C=torch.ones(1, 4, 1, 9), D=None, dt_bias=None, order=torch.arange(4, dtype=torch.int32)[None])
print(__debug__, refused(LocalVMamba, 'none'), refused(LocalVMamba('micro'), torch.ones(2, 5, 64, 64)),
      refused(lambda: local_selective_scan(ScanInputs(**scan))))
"""
    assert run(code, tmp_path, '-O', '') == 'False True True True\n'


def test_no_check_is_an_assertion(repo_dir) -> None:
    # python -O leaves assertions out.
    import ast

    files = [path for folder in ('mmlocalmamba', 'tools') for path in (repo_dir / folder).rglob('*.py')]
    asserting = [
        path for path in files if any(isinstance(n, ast.Assert) for n in ast.walk(ast.parse(path.read_text())))
    ]
    assert len(files) > 100
    assert asserting == []


@pytest.mark.slow
def test_training_in_a_folder_of_any_name_without_unicode_locale(tmp_path, repo_dir, make_folders) -> None:
    folder = tmp_path / 'mît blänk ünd 中文'
    folder.mkdir()
    make_folders(folder / 'bilder ä', per_class=2)
    (folder / 'kleiner Lauf é.py').write_text(
        CLASSIFIER.replace('{configs}', str(repo_dir / 'configs')), encoding='utf-8'
    )
    done = subprocess.run(
        [sys.executable, '-O', str(repo_dir / 'tools/train.py'), 'kleiner Lauf é.py', '--work-dir', 'út put'],
        cwd=folder,
        env={**os.environ, 'LC_ALL': 'C', 'LANG': 'C'},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / 'út put/epoch_1.pth').is_file()
    assert (folder / 'út put/last_checkpoint').read_text(encoding='utf-8').endswith('epoch_1.pth')


@pytest.fixture
def make_folders():
    """Write tiny images, one folder per class."""
    from PIL import Image

    def make(root: Path, per_class: int) -> None:
        for name in ('ännä', 'b c'):
            (root / name).mkdir(parents=True)
            for index in range(per_class):
                Image.new('RGB', (40, 40), (index, 9, 9)).save(root / name / f'{index}.png')

    return make


CLASSIFIER = """
_base_ = ['{configs}/imagenet/local_vmamba_t.py']
model = dict(
    data_preprocessor=dict(num_classes=2),
    backbone=dict(arch='micro', drop_path_rate=0.0),
    head=dict(num_classes=2, in_channels=256),
)
folder = dict(data_root='bilder ä', data_prefix='')
train_dataloader = dict(batch_size=2, num_workers=1, dataset=dict(**folder, pipeline=[dict(
    type='mmlocalmamba.TimmTransform', input_size=32, is_training=True)]))
val_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(**folder, pipeline=[dict(
    type='mmlocalmamba.TimmTransform', input_size=32, is_training=False)]))
test_dataloader = val_dataloader
val_evaluator = dict(topk=(1,))
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1)
"""
