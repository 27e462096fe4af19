"""What the scripts for several GPUs call, with stand-ins for Python and srun that write their arguments down."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPTS = ('dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh')
SETTINGS = ('NNODES', 'NODE_RANK', 'MASTER_ADDR', 'PORT', 'GPUS', 'GPUS_PER_NODE', 'CPUS_PER_TASK', 'SRUN_ARGS')
ODD = ['--work-dir', 'my runs/*', '--cfg-options', 'data_root=a "b" $HOME', 'scales=[(1, 2)]']
POSITIONAL = {
    'dist_train.sh': ['my config.py', '2'],
    'dist_test.sh': ['my config.py', 'my weights.pth', '2'],
    'slurm_train.sh': ['part', 'my job', 'my config.py'],
    'slurm_test.sh': ['part', 'my job', 'my config.py', 'my weights.pth'],
}


@pytest.fixture
def called(repo_dir, tmp_path):
    """Run a script, and give the arguments of what it calls."""
    for name in ('python', 'srun'):
        stand_in = tmp_path / name
        stand_in.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        stand_in.chmod(0o755)
    inherited = {key: value for key, value in os.environ.items() if key not in (*SETTINGS, 'PYTHON')}

    def run(script: str, *arguments: str, **settings: str) -> list[str]:
        env = {**inherited, 'PATH': f'{tmp_path}{os.pathsep}{os.environ["PATH"]}', **settings}
        command = [str(repo_dir / 'tools' / script), *arguments]
        return subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()

    return run


@pytest.mark.parametrize('script', SCRIPTS)
def test_arguments_arrive_as_they_are(script, called, repo_dir) -> None:
    launcher, tool = script.removesuffix('.sh').split('_')
    files = [argument for argument in POSITIONAL[script] if argument.startswith('my ') and '.' in argument]
    words = called(script, *POSITIONAL[script], *ODD)

    path = str(repo_dir / 'tools' / f'{tool}.py')
    name = {'dist': 'pytorch', 'slurm': 'slurm'}[launcher]
    assert words[words.index(path) :] == [path, *files, '--launcher', name, *ODD]


@pytest.mark.parametrize('script', SCRIPTS[:2])
def test_one_machine_is_the_default(script, called) -> None:
    words = called(script, *POSITIONAL[script])

    assert words[:2] == ['-m', 'torch.distributed.run']
    assert {'--nnodes=1', '--node_rank=0', '--nproc_per_node=2', '--master_addr=127.0.0.1', '--master_port=29500'} <= {
        *words
    }


@pytest.mark.parametrize('script', SCRIPTS[:2])
def test_several_machines_come_from_the_environment(script, called) -> None:
    words = called(script, *POSITIONAL[script], NNODES='4', NODE_RANK='3', MASTER_ADDR='10.0.0.1', PORT='1234')

    assert {'--nnodes=4', '--node_rank=3', '--master_addr=10.0.0.1', '--master_port=1234'} <= {*words}


@pytest.mark.parametrize('script', SCRIPTS[2:])
@pytest.mark.parametrize(
    ('settings', 'wanted'),
    [
        ({}, ['--gres=gpu:8', '--ntasks=8', '--ntasks-per-node=8', '--cpus-per-task=5']),
        ({'GPUS': '2'}, ['--gres=gpu:2', '--ntasks=2', '--ntasks-per-node=2']),
        ({'GPUS': '16'}, ['--gres=gpu:8', '--ntasks=16', '--ntasks-per-node=8']),
        ({'GPUS': '16', 'GPUS_PER_NODE': '4', 'CPUS_PER_TASK': '3'}, ['--gres=gpu:4', '--cpus-per-task=3']),
        ({'SRUN_ARGS': '--time=1:00 --exclusive'}, ['--time=1:00', '--exclusive']),
    ],
)
def test_slurm_gets_what_the_environment_says(script, settings, wanted, called) -> None:
    words = called(script, *POSITIONAL[script], **settings)

    assert words[:3] == ['-p', 'part', '--job-name=my job']
    assert set(wanted) <= set(words)
    assert 'python' in words


@pytest.mark.parametrize('script', SCRIPTS)
def test_scripts_are_executable_and_strict(script, repo_dir) -> None:
    path = Path(repo_dir) / 'tools' / script

    assert os.access(path, os.X_OK)
    lines = path.read_text().splitlines()
    assert lines[0] == '#!/usr/bin/env bash'
    assert 'set -euo pipefail' in lines
