import inspect

import pytest
import torch

import fused_kernels


@pytest.fixture
def triton_compiler():
    pytest.importorskip('triton', minversion='3.3')  # older ones are called with other arguments


@pytest.mark.usefixtures('triton_compiler')
@pytest.mark.slow
@pytest.mark.parametrize('capability', [80, 90, 100])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_kernels_around_the_scan_compile_without_spills(capability, dtype):
    reports = fused_kernels.fused_report(capability, dtype)

    assert {report.kernel.split(':')[0] for report in reports} == set(fused_kernels.OPERATIONS)
    for report in reports:
        assert report.capability == capability
        assert 0 < report.registers <= 255
        assert report.spill_bytes == 0, report
        assert report.shared_bytes <= 16384, report


@pytest.mark.usefixtures('triton_compiler')
@pytest.mark.parametrize('operation', list(fused_kernels.OPERATIONS))
def test_kernels_use_no_atomics(operation):
    launches = fused_kernels.recorded_launches(operation, torch.float32, 64)
    sources = {inspect.getsource(inspect.getmodule(launch.kernel.fn)) for launch in launches}

    assert sources
    assert not any('atomic' in source for source in sources)


@pytest.mark.usefixtures('triton_compiler')
def test_launches_of_a_training_step_are_recorded():
    launches = fused_kernels.recorded_launches('gate_and_merge', torch.float16, 64)
    names = [launch.kernel.__name__ for launch in launches]

    assert names == [
        'mean_kernel',
        'hidden_kernel',
        'gate_kernel',
        'merge_kernel',
        'grad_gates_kernel',
        'backward_kernel',
    ]
    assert launches[0].arguments[0].dtype == torch.float16
