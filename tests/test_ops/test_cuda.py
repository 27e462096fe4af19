import pytest
import torch

from mmlocalmamba.ops.backends import cuda

from . import mamba_double
from .mamba_double import SelectiveScanDouble
from .problems import assert_agrees, make_problem


@pytest.fixture
def kernel(monkeypatch) -> SelectiveScanDouble:
    double = SelectiveScanDouble()
    monkeypatch.setattr(cuda, '_kernel', lambda: double)
    return double


@pytest.mark.parametrize('spatial', [True, False])
@pytest.mark.parametrize('size', [(1, 1), (3, 5), (6, 7)])
def test_agrees_with_reference(kernel, size, spatial) -> None:
    problem = make_problem(*size, ('h', 'v_flip', 'w2', 'w7_flip'), batch=2, dtype=torch.float32, spatial=spatial)

    assert_agrees(cuda, problem, 1e-5)

    assert kernel.calls == ['fwd', 'bwd']


@pytest.mark.parametrize('spatial', [True, False])
def test_strided_tokens_reach_the_kernel_in_its_layout(kernel, spatial) -> None:
    assert_agrees(cuda, make_problem(4, 5, dtype=torch.float32, strided=True, spatial=spatial), 1e-5)


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.bfloat16, 2e-2), (torch.float16, 2e-3)])
def test_low_precision_tokens(kernel, dtype, tolerance) -> None:
    assert_agrees(cuda, make_problem(4, 5, dtype=dtype), tolerance)


def test_states_of_several_kernel_chunks(kernel, monkeypatch) -> None:
    monkeypatch.setattr(cuda, 'KERNEL_CHUNK', 16)
    monkeypatch.setattr(mamba_double, 'CHUNK', 16)

    assert_agrees(cuda, make_problem(5, 7, dtype=torch.float32), 1e-5)


def test_empty_batch_launches_nothing(kernel) -> None:
    assert_agrees(cuda, make_problem(3, 4, batch=0, dtype=torch.float32), 0)

    assert kernel.calls == []


def test_float64_is_refused(kernel) -> None:
    with pytest.raises(ValueError, match="no float64: use backend='chunked'"):
        cuda.forward(make_problem(3, 4).inputs, False)


def test_double_refuses_a_wrong_layout() -> None:
    arguments = list(cuda._arguments(make_problem(3, 4, dtype=torch.float32).inputs))
    arguments[0] = arguments[0].transpose(1, 2).contiguous().transpose(1, 2)

    with pytest.raises(AssertionError):
        SelectiveScanDouble().fwd(*arguments, True)


def test_cpu_cannot_run_it() -> None:
    assert 'CUDA devices only' in cuda.why_not('cpu')


def test_missing_module_says_how_to_get_it(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)

    assert 'MAMBA_KEEP_CUDA_BUILD=TRUE pip install mamba-ssm' in cuda.why_not('cuda')


def test_module_of_another_pytorch_says_so(monkeypatch) -> None:
    def broken():
        raise ImportError('undefined symbol: _ZN2at4_ops')

    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(cuda, '_kernel', broken)

    assert 'built for another PyTorch (undefined symbol' in cuda.why_not('cuda')
