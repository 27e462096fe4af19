"""Peak memory of a training step of the backbones, each in a process of its own.

The figure is the peak of the process's memory (on a GPU, of what PyTorch has allocated) less what it was before the
model was built: weights, gradients, and what the backward needs. An optimizer would add the same to each model.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from compared_models import draw_image, label, local_vmamba, step_of, swin
from mmlocalmamba.analysis.measuring import resident
from mmlocalmamba.engine.allocator import keep_freed_memory
from timing import Result, Setup, compare_once

MODELS = ('LocalVMamba', 'LocalVMamba with_cp', 'Swin')


def memory(setup: Setup) -> Result:
    """Measure the peak memory of LocalVMamba's training step against Swin's, also with checkpoints."""
    side = 64 if setup.small else 1024
    if setup.device != 'cuda':
        resident('VmHWM')  # raises where it cannot be read, before any work
    peaks = {name: peak_in_new_process(name, side, setup) / 2**20 for name in MODELS}
    ours, with_cp, theirs = (label(name.split()[0], setup) + name.removeprefix(name.split()[0]) for name in MODELS)
    base = peaks['Swin']
    rows = [
        compare_once(f'{ours} training step', theirs, peaks['LocalVMamba'], base, 'MiB', setup.wanted(1.3)),
        compare_once(f'{with_cp} training step', theirs, peaks['LocalVMamba with_cp'], base, 'MiB'),
    ]
    what = 'allocated on the GPU' if setup.device == 'cuda' else 'resident'
    note = f'Most memory {what} above what there was before the model was built; backbones with four maps.'
    return Result(f'peak memory of forward + backward, {setup.batch} x 3 x {side} x {side}', rows, notes=[note])


def build(name: str, side: int, setup: Setup) -> nn.Module:
    """Build one of :data:`MODELS`."""
    if name == 'Swin':
        return swin(setup, side, maps=True)
    return local_vmamba(setup, maps=True, with_cp=name.endswith('with_cp'))


def peak_in_new_process(name: str, side: int, setup: Setup) -> int:
    """Return the peak bytes of a training step of one of :data:`MODELS`, in a process of its own.

    Raises:
        RuntimeError: If that process fails.
    """
    task = {'name': name, 'side': side, 'setup': asdict(setup)}
    command = [sys.executable, str(Path(__file__).resolve()), json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f'measuring the memory of {name} ended with status {done.returncode}:\n{done.stderr}')
    return json.loads(done.stdout.splitlines()[-1])


def peak_of_step(name: str, side: int, setup: Setup) -> int:
    """Run a training step in this process, and return its peak in bytes; see :func:`memory`."""
    torch.set_num_threads(setup.threads)
    on_gpu = setup.device == 'cuda'
    if not on_gpu:
        keep_freed_memory()  # as tools/train.py does
    image = draw_image(setup, side)
    before = torch.cuda.memory_allocated() if on_gpu else resident('VmRSS')
    step_of(build(name, side, setup), image)()
    return (torch.cuda.max_memory_allocated() if on_gpu else resident('VmHWM')) - before


if __name__ == '__main__':
    _task = json.loads(sys.argv[1])
    print(peak_of_step(_task['name'], _task['side'], Setup(**_task['setup'])))
