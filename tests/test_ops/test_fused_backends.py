"""Which kernels the operations around the scan use, and the check of these kernels on a device."""

import logging
from types import SimpleNamespace

import pytest
import torch

from mmlocalmamba.ops import backends
from mmlocalmamba.ops.backends import chunked, operation_check
from mmlocalmamba.ops.depthwise_conv import depthwise_conv2d_silu, depthwise_conv2d_silu_naive

CPU = torch.device('cpu')
OPERATION = 'depthwise_conv'


def scan(reason=None) -> SimpleNamespace:
    """Make a back end of the scan that can run anywhere, unless there is a reason why not."""
    names = ('states_shape', 'forward', 'backward', 'TAKES_FACTORS')
    return SimpleNamespace(why_not=lambda device_type: reason, **{name: getattr(chunked, name) for name in names})


def forward(**values):
    return depthwise_conv2d_silu_naive(**values)


def backward(grad_y, **values):
    with torch.enable_grad():
        leaves = {name: value.detach().requires_grad_() for name, value in values.items()}
        return list(torch.autograd.grad(depthwise_conv2d_silu_naive(**leaves), list(leaves.values()), grad_y))


def wrong_gradient(**values):
    grad_x, *others = backward(**values)
    return [grad_x * 1.1, *others]


def raising(**values):
    raise RuntimeError('no kernel image is available')


@pytest.fixture
def device(monkeypatch, caplog):
    """Let the CPU stand for a CUDA device with fake back ends, whose kernels are checked."""
    found = {'triton': scan(), 'cuda': scan(), 'chunked': chunked}
    kernels = SimpleNamespace(forward=forward, backward=backward)
    monkeypatch.delenv(backends.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setattr(backends, 'load_backend', found.__getitem__)
    monkeypatch.setattr(backends, '_import_fused', lambda name, operation: kernels)
    monkeypatch.setattr(backends, '_CHECKED_DEVICES', ('cpu',))
    monkeypatch.setitem(backends.AUTO_ORDER, 'cpu', ('triton', 'cuda', 'chunked'))
    monkeypatch.setattr(operation_check, 'CHANNELS', {torch.float32: 4, torch.bfloat16: 8})
    monkeypatch.setattr(backends.logger, 'propagate', True)
    caplog.set_level(logging.WARNING, 'mmlocalmamba')
    backends._choose.cache_clear()
    backends._choose_fused.cache_clear()
    yield SimpleNamespace(found=found, kernels=kernels)
    backends._choose.cache_clear()
    backends._choose_fused.cache_clear()


def test_kernels_are_those_of_the_scan(device) -> None:
    assert backends.backend_for(CPU) == 'triton'
    assert backends.fused_kernels(OPERATION, CPU).backend == 'triton'


def test_mamba_ssm_leaves_the_rest_to_triton(device, monkeypatch) -> None:
    monkeypatch.setenv(backends.ENVIRONMENT_VARIABLE, 'cuda')

    assert backends.backend_for(CPU) == 'cuda'
    assert backends.fused_kernels(OPERATION, CPU).backend == 'triton'


def test_without_triton_mamba_ssm_has_pytorch_around_it(device) -> None:
    device.found['triton'] = scan('triton is not installed.')

    assert backends.backend_for(CPU) == 'cuda'
    assert backends.fused_kernels(OPERATION, CPU) is None


def test_a_plain_scan_has_pytorch_around_it(device, monkeypatch) -> None:
    monkeypatch.setenv(backends.ENVIRONMENT_VARIABLE, 'chunked')

    assert backends.fused_kernels(OPERATION, CPU) is None


def test_every_operation_has_triton_kernels() -> None:
    assert set(backends.FUSED_OPERATIONS['triton']) == set(operation_check.PROBLEMS)


@pytest.mark.parametrize(
    ('broken', 'message'),
    [
        (dict(backward=wrong_gradient), 'the gradient of x differs by'),
        (dict(backward=raising), 'it raised RuntimeError: no kernel image is available'),
        (dict(forward=lambda **values: forward(**values) * torch.nan), 'y differs by nan'),
    ],
    ids=['gradient', 'raises', 'nan'],
)
def test_kernels_that_disagree_are_not_used(device, caplog, broken, message) -> None:
    vars(device.kernels).update(broken)
    x, weight, bias = torch.randn(1, 3, 4, 2), torch.randn(2, 1, 3, 3), torch.randn(2)

    torch.testing.assert_close(depthwise_conv2d_silu(x, weight, bias), depthwise_conv2d_silu_naive(x, weight, bias))
    depthwise_conv2d_silu(x, weight, bias)
    (warning,) = (record.getMessage() for record in caplog.records)
    assert message in warning
    assert 'NOT USED' in warning


def test_kernels_that_disagree_raise_if_asked_for(device, monkeypatch) -> None:
    device.kernels.backward = wrong_gradient
    monkeypatch.setenv(backends.ENVIRONMENT_VARIABLE, 'triton')

    with pytest.raises(RuntimeError, match='depthwise_conv on cpu: the fused kernels .* do not agree'):
        backends.fused_kernels(OPERATION, CPU)


def test_check_sees_nothing_of_the_callers_modes(device) -> None:
    with torch.inference_mode(), torch.autocast('cpu', dtype=torch.bfloat16):
        assert backends.fused_kernels(OPERATION, CPU) is not None


def test_calling_an_operation_without_kernels_says_what_to_call(device, monkeypatch) -> None:
    monkeypatch.setenv(backends.ENVIRONMENT_VARIABLE, 'chunked')
    x, weight, bias = torch.randn(1, 3, 4, 2), torch.randn(2, 1, 3, 3), torch.randn(2)

    with pytest.raises(RuntimeError, match="no fused kernels for the back end 'chunked' on 'cpu': call the public"):
        torch.ops.mmlocalmamba.depthwise_conv2d_silu(x, weight, bias)
