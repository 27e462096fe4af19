import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmlocalmamba.engine.device import fit_launcher, fit_precision, start_process_group, use_amp

from .ports import free_port

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason='about machines without a GPU')


def config(launcher: str) -> Config:
    return Config(
        {
            'launcher': launcher,
            'model': {'norm_cfg': {'type': 'SyncBN'}, 'heads': [{'norm_cfg': {'type': 'SyncBN'}}]},
            'optim_wrapper': {'type': 'AmpOptimWrapper', 'loss_scale': 'dynamic', 'optimizer': {'type': 'SGD'}},
        }
    )


def test_mixed_precision_becomes_float32() -> None:
    cfg = config('none')

    fit_precision(cfg)

    assert cfg.optim_wrapper == {'type': 'OptimWrapper', 'optimizer': {'type': 'SGD'}}


def test_one_process_keeps_its_model() -> None:
    cfg = config('none')

    fit_launcher(cfg)

    assert cfg.to_dict() == config('none').to_dict()


def test_several_processes_get_what_the_cpu_can_do() -> None:
    cfg = config('pytorch')
    cfg.model_wrapper_cfg = {'type': 'MMDistributedDataParallel', 'find_unused_parameters': True}

    fit_launcher(cfg)

    assert cfg.model == {'norm_cfg': {'type': 'BN'}, 'heads': [{'norm_cfg': {'type': 'BN'}}]}
    assert cfg.model_wrapper_cfg.device_ids is None
    assert cfg.model_wrapper_cfg.find_unused_parameters


def test_only_one_launcher_does_without_a_gpu() -> None:
    start_process_group('none')
    assert not torch.distributed.is_initialized()
    with pytest.raises(ValueError, match='--launcher slurm needs GPUs'):
        start_process_group('slurm')


def test_amp_is_bfloat16_on_the_cpu(capfd) -> None:
    cfg = config('none')

    use_amp(cfg)
    fit_precision(cfg)

    assert cfg.optim_wrapper == {'type': 'mmlocalmamba.CpuAmpOptimWrapper', 'optimizer': {'type': 'SGD'}}
    assert 'the forward uses bfloat16 on the CPU' in ''.join(capfd.readouterr())


def test_two_processes_without_a_gpu_are_told_so(capfd, monkeypatch) -> None:
    monkeypatch.setenv('WORLD_SIZE', '2')

    fit_launcher(config('pytorch'))

    assert 'No GPU: 2 processes share this CPU and exchange gradients by gloo' in ''.join(capfd.readouterr())


# Handlers of atexit run in the reverse order: this one sees what the group's has left.
PROGRAM = """
import atexit, os, sys
from torch import distributed
from mmlocalmamba.engine import device

atexit.register(lambda: print('group at exit:', distributed.is_initialized(), flush=True))
device.SECONDS_TO_END = 1
device.start_process_group('pytorch')
rank, what = distributed.get_rank(), sys.argv[1]
if what == 'error':
    raise ValueError('the run failed')
if what == 'missed':
    import torch
    if rank == 1:
        sys.stdin.read()  # until the test is over
    distributed.all_reduce(torch.ones(1), async_op=True)
    raise ValueError('the run failed')
"""


def start(folder: Path, what: str, rank: int = 0, world_size: int = 1, port: int | None = None) -> subprocess.Popen:
    meeting = {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port or free_port())}
    env = {**os.environ, **meeting, 'RANK': str(rank), 'WORLD_SIZE': str(world_size), 'LOCAL_RANK': str(rank)}
    return subprocess.Popen(
        [sys.executable, '-c', PROGRAM, what],
        cwd=folder,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize(('what', 'status'), [('success', 0), ('error', 1)])
def test_the_group_ends_with_the_run(what, status, tmp_path) -> None:
    process = start(tmp_path, what)
    out, errors = process.communicate(timeout=120)

    assert process.returncode == status, errors
    assert out == 'group at exit: False\n'


@pytest.mark.slow
def test_a_failed_process_does_not_wait_for_the_others(tmp_path) -> None:
    port = free_port()
    failed, other = (start(tmp_path, 'missed', rank, 2, port) for rank in range(2))

    _, errors = failed.communicate(timeout=120)
    other.communicate('', timeout=120)

    assert 'the run failed' in errors
    assert failed.returncode == -signal.SIGALRM
