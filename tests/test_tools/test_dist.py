import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(torch.cuda.is_available(), reason='would take two GPUs; this is about the CPU'),
]


def run(repo_dir: Path, script: str, *arguments: str) -> subprocess.CompletedProcess:
    env = {**os.environ, 'PYTHON': sys.executable, 'PYTHONPATH': str(repo_dir), 'PORT': str(20000 + os.getpid() % 9000)}
    command = ['bash', str(repo_dir / 'tools' / script), *arguments]
    return subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)


def test_two_processes_train_and_evaluate(repo_dir, det_config) -> None:
    done = run(repo_dir, 'dist_train.sh', str(det_config), '2', '--work-dir', 'out')
    assert done.returncode == 0, done.stdout
    assert Path('out/epoch_1.pth').is_file()
    assert '[1][1/1]' in done.stdout, 'each process takes half of the batches'

    done = run(repo_dir, 'dist_test.sh', str(det_config), 'out/epoch_1.pth', '2', '--work-dir', 'out')
    assert done.returncode == 0, done.stdout
    assert 'coco/segm_mAP' in done.stdout


def test_all_processes_stop_at_a_loss_that_is_not_finite(repo_dir, det_config) -> None:
    det_config.write_text(det_config.read_text() + "custom_hooks = [dict(type='mmlocalmamba.NonFiniteHook')]\n")

    done = run(
        repo_dir,
        'dist_train.sh',
        str(det_config),
        '2',
        '--work-dir',
        'out',
        '--cfg-options',
        'optim_wrapper.optimizer.lr=1e38',
        'train_cfg.max_epochs=3',
    )

    assert done.returncode != 0
    assert 'FloatingPointError: iteration' in done.stdout, done.stdout
    assert len(list(Path('out').glob('non_finite_iter_*_rank?.pth'))) == 2


@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh'])
def test_scripts_say_how_they_are_called(repo_dir, script: str) -> None:
    done = run(repo_dir, script)

    assert done.returncode == 2
    assert f'tools/{script} ' in done.stdout
