import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmlocalmamba.compat.torch_load import FORCE_SAFE


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason='forks processes, which cannot share a GPU')
def test_killed_searches_resume_to_the_same_weights(repo_dir, tmp_path) -> None:
    tool = repo_dir / 'tools/reliability/kill_runs.py'
    env = {name: value for name, value in os.environ.items() if name != FORCE_SAFE}
    env.update(PYTHONPATH=str(repo_dir), OMP_NUM_THREADS='1')

    done = subprocess.run(
        [sys.executable, str(tool), 'out', '--kills', '4', '--only', 'search'],
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )

    assert done.returncode == 0, done.stdout[-3000:]
    row = Path(tmp_path, 'out/report.md').read_text().splitlines()[2].split(' | ')
    *kills, differ = row[2:]
    # A kill that comes too late is made up for by another one, so that there may be more of a kind.
    assert all(int(number) >= least for number, least in zip(kills, (4, 1, 1, 1, 1), strict=True)), kills
    assert differ == '0 |'


@pytest.fixture
def kill_runs():
    import kill_runs

    return kill_runs


def test_a_difference_is_found(kill_runs, tmp_path) -> None:
    folders = [tmp_path / 'run', tmp_path / 'reference']
    for folder in folders:
        folder.mkdir()
        torch.save({'state_dict': {'weight': torch.ones(3)}, 'optimizer': {'state': [1, 2]}}, folder / 'epoch_1.pth')
    assert kill_runs.differences(*folders) == []

    torch.save(
        {'state_dict': {'weight': torch.tensor([1, 1, 1 + 1e-6])}, 'optimizer': {'state': [1, 3]}},
        tmp_path / 'run/epoch_1.pth',
    )
    assert kill_runs.differences(*folders) == ['state_dict of epoch_1.pth', 'optimizer of epoch_1.pth']

    (tmp_path / 'run/epoch_1.pth').rename(tmp_path / 'run/epoch_2.pth')
    assert kill_runs.differences(*folders) == ["the files are ['epoch_2.pth'] in place of ['epoch_1.pth']"]


def test_files_that_are_not_whole_are_found(kill_runs, tmp_path) -> None:
    torch.save({'weight': torch.ones(3)}, tmp_path / 'epoch_1.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_1.pth'))
    assert kill_runs.broken_files(tmp_path) == []

    (tmp_path / 'last_checkpoint').write_text('')
    (tmp_path / 'epoch_1.pth').write_bytes((tmp_path / 'epoch_1.pth').read_bytes()[:300])
    assert kill_runs.broken_files(tmp_path) == [
        'epoch_1.pth: it is cut off after 300 bytes',
        "last_checkpoint: '' is no file",
    ]
