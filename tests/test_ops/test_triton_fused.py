import importlib
import importlib.util
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmlocalmamba.models import LocalVMamba
from mmlocalmamba.models.layers.ss2d import SS2D
from mmlocalmamba.models.layers.ss2d_block import SS2DBlock
from mmlocalmamba.models.layers.vim_block import VimBlock
from mmlocalmamba.models.layers.vim_mixer import VimMixer
from mmlocalmamba.ops import backends
from mmlocalmamba.ops.backends import cpu, triton
from mmlocalmamba.ops.backends.operation_check import operation_check
from saved_bytes import saved_bytes

needs_triton = pytest.mark.skipif(importlib.util.find_spec('triton') is None, reason='triton is not installed')
TOKENS = 28 * 21
INTERPRETED = Path(__file__).with_name('triton_fused_interpreted.py')


@needs_triton
@pytest.mark.slow
def test_kernels_in_the_interpreter() -> None:
    command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', str(INTERPRETED)]
    environment = {**os.environ, 'TRITON_INTERPRET': '1', backends.ENVIRONMENT_VARIABLE: 'triton'}
    result = subprocess.run(
        command, env=environment, cwd=INTERPRETED.parents[2], capture_output=True, text=True, timeout=900
    )

    assert result.returncode == 0, result.stdout[-4000:]
    assert ' passed' in result.stdout


@pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no CUDA device')
@pytest.mark.parametrize('operation', backends.FUSED_OPERATIONS['triton'])
def test_kernels_on_this_gpu(operation) -> None:
    kernels, device = importlib.import_module(f'mmlocalmamba.ops.backends.triton.{operation}'), torch.device('cuda')

    assert operation_check(operation, kernels, device) is None


@pytest.fixture
def use(monkeypatch):
    """Choose a back end for tensors without data, which run no kernel: whether it could run does not matter."""

    def choose(name: str) -> None:
        backends._choose.cache_clear()
        backends._choose_fused.cache_clear()
        monkeypatch.setenv(backends.ENVIRONMENT_VARIABLE, name)

    monkeypatch.setattr(cpu, 'why_not', lambda device_type: None)
    monkeypatch.setattr(triton, 'why_not', lambda device_type: None)
    monkeypatch.setattr(triton, 'TAKES_FACTORS', True)
    yield choose
    backends._choose.cache_clear()
    backends._choose_fused.cache_clear()


def vmamba_block():
    block = SS2DBlock(96, SS2D(96, ('h', 'v_flip', 'w2', 'w7')), 0.0)
    return block, [torch.randn(2, 28, 21, 96)]


def vim_block():
    block = VimBlock(96, VimMixer(96, ('h', 'v_flip', 'w2', 'w7')), 0.0)
    tables = (torch.randn(TOKENS, 96), torch.randn(TOKENS, 96))
    return block, [torch.randn(2, TOKENS, 96), torch.randn(2, TOKENS, 96), 28, 21, tables]


BLOCKS = pytest.mark.parametrize('make', [vmamba_block, vim_block], ids=['local_vmamba', 'local_vim'])


@BLOCKS
def test_no_more_is_saved_than_on_the_cpu(make, use) -> None:
    block, inputs = make()
    use('cpu')
    theirs = saved_bytes(block, *inputs)
    use('triton')

    assert 0.5 * theirs < saved_bytes(block, *inputs) <= 1.05 * theirs


@BLOCKS
def test_half_as_much_is_saved_in_half_precision(make, use) -> None:
    block, inputs = make()
    use('triton')
    whole = saved_bytes(block, *inputs)
    halves = [inputs[0].bfloat16(), *inputs[1:]]

    # The states of the scan, one per 64 steps, and LocalVim's residual stream stay in full precision.
    states = 4 * math.prod((2, 4, math.ceil(TOKENS / 64), 16, 192))
    stream = inputs[1].nbytes if len(inputs) > 1 else 0
    assert saved_bytes(block.bfloat16(), *halves) <= 1.02 * (whole + states + stream) / 2


@pytest.mark.slow
def test_local_vmamba_saves_little_more_than_swin(use) -> None:
    timm = pytest.importorskip('timm')
    use('triton')
    image = torch.zeros(1, 3, 512, 512)
    swin = timm.create_model('swin_tiny_patch4_window7_224', img_size=512, features_only=True)

    assert saved_bytes(LocalVMamba('tiny'), image) <= 1.35 * saved_bytes(swin, image)


def test_saved_bytes_of_a_layer_are_those_of_its_activation() -> None:
    layers = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Sigmoid())

    assert saved_bytes(layers, torch.zeros(3, 4)) == 3 * 8 * 4
