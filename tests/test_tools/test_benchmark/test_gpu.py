import json
import os
import subprocess
import sys

import pytest
import torch


@pytest.fixture
def gpu(tool):
    return tool('benchmark/gpu')


WITHOUT = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        blocked = ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'timm')
        return None if name.split('.')[0] in blocked else PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [Without if finder is PathFinder else finder for finder in sys.meta_path]
"""


def run_without_mm(code: str, repo_dir) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(repo_dir), str(repo_dir / 'tools/benchmark'), os.environ.get('PYTHONPATH', '')])
    command = [sys.executable, '-c', WITHOUT + code]
    return subprocess.run(command, env={**os.environ, 'PYTHONPATH': path}, capture_output=True, text=True, timeout=400)


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a CUDA device')
def test_without_a_gpu_it_says_so_and_stops(gpu, capsys, tmp_path):
    assert gpu.main(['--out', str(tmp_path / 'gpu')]) == 1
    assert 'PyTorch sees no GPU here, so nothing is measured' in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_dry_run_takes_every_part(gpu, tmp_path, capsys):
    assert gpu.main(['--dry-run', '--out', str(tmp_path / 'results/gpu')]) == 0
    found = json.loads((tmp_path / 'results/gpu.json').read_text())
    assert list(found['parts']) == list(gpu.PARTS)
    for name, part in found['parts'].items():
        assert part['rows'], name
        assert part['note'] == '', name
    for name in ('training', 'inference', 'dense'):
        rows = found['parts'][name]['rows']
        assert {row['model'] for row in rows} == {*gpu.gpu_parts.OURS, *gpu.gpu_parts.TIMM}
        assert all(row['images/s'] > 0 and not row['note'] for row in rows), rows
    page = (tmp_path / 'results/gpu.md').read_text()
    assert 'a dry run: these figures mean nothing' in page
    assert page in capsys.readouterr().out


@pytest.mark.slow
def test_the_package_alone_is_enough(repo_dir, tmp_path):
    code = f"""
sys.path.insert(0, {str(repo_dir / 'tools/benchmark')!r})
import gpu
assert gpu.MISSING == ('mmengine', 'mmcv', 'timm'), gpu.MISSING
status = gpu.main(['--dry-run', '--only', 'checks,training', '--out', {str(tmp_path / 'gpu')!r}])
assert status == 0
"""
    done = run_without_mm(code, repo_dir)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads((tmp_path / 'gpu.json').read_text())['parts']['training']['rows']
    assert all(row['images/s'] > 0 for row in rows if row['model'].startswith('Local'))
    assert {row['model'] for row in rows if row['note'] == 'skipped: timm is not installed'} == {
        'Swin-T', 'DeiT-T', 'ConvNeXt-T', 'ResNet-50',
    }  # fmt: skip


def test_what_the_stand_in_lacks_is_named(repo_dir):
    code = """
from without_timm import stand_in
stand_in()
from timm.layers import DropPath
from mmlocalmamba.models import LocalVMamba
DropPath(0.0)
for make in (lambda: LocalVMamba('micro', drop_path_rate=0.1), lambda: __import__('timm.data').data.Mixup()):
    try:
        make()
    except (ValueError, RuntimeError) as error:
        print(error)
"""
    done = run_without_mm(code, repo_dir)
    assert done.stdout.splitlines() == [
        'a drop path rate of 0.025 wants timm: pip install timm',
        'timm.data.Mixup is needed here: pip install timm',
    ], done.stderr[-2000:]


def test_with_everything_installed_nothing_is_replaced(gpu):
    import mmengine.model

    assert gpu.MISSING == ()
    assert mmengine.model.BaseModule.__module__.startswith('mmengine')


def part(rows):
    def take(plan):
        yield from rows

    return take


def test_a_part_ends_with_its_time_and_its_rows_stay(gpu, monkeypatch):
    monkeypatch.setitem(gpu.PARTS, 'checks', (part([{'a': 1}, {'a': 2}]), 1, 'a title'))
    found = gpu.take('checks', None, seconds=-1.0)
    assert found['rows'] == [{'a': 1}]
    assert 'its time budget' in found['note']


def test_an_error_ends_a_part_only(gpu, monkeypatch, tmp_path):
    def broken(plan):
        yield {'checked': 'scan', 'outcome': 'agrees', 'error': 1e-7}
        raise RuntimeError('a lost device')

    monkeypatch.setitem(gpu.PARTS, 'checks', (broken, 60, 'checks'))
    monkeypatch.setitem(gpu.PARTS, 'tune', (part([{'tuned for': 'x | y', 'seconds': 1.5}]), 60, 'tuning'))
    assert gpu.main(['--dry-run', '--only', 'checks,tune', '--out', str(tmp_path / 'gpu')]) == 0
    found = json.loads((tmp_path / 'gpu.json').read_text())
    assert found['parts']['checks']['note'] == 'ended by RuntimeError: a lost device'
    assert found['parts']['tune']['rows'] == [{'tuned for': 'x | y', 'seconds': 1.5}]
    assert '| x / y | 1.50 |' in (tmp_path / 'gpu.md').read_text()


def test_a_wrong_kernel_is_the_exit_status(gpu, monkeypatch, tmp_path):
    rows = [{'checked': 'scan', 'outcome': 'WRONG: more than 0.1', 'error': 1.0}]
    monkeypatch.setitem(gpu.PARTS, 'checks', (part(rows), 60, 'checks'))
    assert gpu.main(['--dry-run', '--only', 'checks', '--out', str(tmp_path / 'gpu')]) == 1


def test_a_model_that_does_not_fit_is_a_row(gpu, monkeypatch):
    parts = gpu.gpu_parts
    monkeypatch.setattr(parts, 'build', lambda *_: (_ for _ in ()).throw(RuntimeError('out of memory')))
    plan = parts.Plan('cpu', dry=True)
    rows = list(parts._model_rows(plan, 'LocalVim-T', 2, (32, 32), training=True))
    assert [row['note'] for row in rows] == 2 * ['failed: RuntimeError: out of memory']
    assert {row['ms'] for row in rows} == {None}


@pytest.mark.parametrize(
    ('name', 'tf32', 'dtype'), [('fp32', False, None), ('tf32', True, None), ('bf16', True, torch.bfloat16)]
)
def test_precisions(gpu, name, tf32, dtype):
    before = torch.backends.cuda.matmul.allow_tf32
    with gpu.gpu_parts.precision(name, 'cpu'):
        assert torch.backends.cuda.matmul.allow_tf32 == tf32
        assert torch.is_autocast_enabled('cpu') == (dtype is not None)
    assert torch.backends.cuda.matmul.allow_tf32 == before


def test_unknown_parts_are_refused(gpu, capsys):
    with pytest.raises(SystemExit):
        gpu.parse_args(['--only', 'everything'])
    assert "unknown 'everything': choose from checks, tune" in capsys.readouterr().err


def test_budgets_add_up_to_less_than_ten_minutes(gpu):
    assert sum(seconds for _, seconds, _ in gpu.PARTS.values()) < 570
