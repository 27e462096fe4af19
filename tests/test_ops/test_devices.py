"""Every operation on every device, by whichever kernels are chosen there, against its naive function in float64.

Problems are drawn on the CPU and moved; what is wanted is computed on the CPU.
"""

import pytest
import torch

from mmlocalmamba.directions import scan_orders
from mmlocalmamba.ops import (
    ChannelGate,
    OutputNorm,
    add_rotate_rms_norm,
    available_backends,
    backends,
    depthwise_conv2d_silu,
    gate_and_merge,
    local_causal_conv1d,
    local_selective_scan,
    merge_and_normalise,
)
from mmlocalmamba.ops.add_norm import add_rotate_rms_norm_naive
from mmlocalmamba.ops.backends.self_check import self_check
from mmlocalmamba.ops.causal_conv import causal_conv1d_naive
from mmlocalmamba.ops.depthwise_conv import depthwise_conv2d_silu_naive
from mmlocalmamba.ops.gate_and_merge import gate_and_merge_naive
from mmlocalmamba.ops.merge_and_normalise import merge_and_normalise_naive

from .problems import assert_agrees, in_factors, make_problem, map_tensors, on_device, tensors_of, truth

EPS = 1e-5
PRECISIONS = pytest.mark.parametrize(
    ('dtype', 'tolerance'), [(torch.float32, 2e-5), (torch.bfloat16, 2e-2), (torch.float16, 3e-3)], ids=str
)
DIRECTIONS = ('h', 'v_flip', 'w2', 'w7_flip')


def draw(dtype, *shape):
    return torch.randn(shape).to(dtype)


def gate_weights(channels, hidden=4):
    shapes = [(channels,), (channels,), (hidden, channels), (hidden,), (channels, hidden), (channels,)]
    return [torch.randn(shape) for shape in shapes]


def causal_conv(dtype):
    order = scan_orders(DIRECTIONS, 13, 11)
    tensors = [draw(dtype, 2, 143, 40), torch.randn(4, 40, 4), torch.randn(4, 40)]
    return local_causal_conv1d, causal_conv1d_naive, tensors, [order]


def depthwise_conv(dtype):
    tensors = [draw(dtype, 2, 13, 11, 40), torch.randn(40, 1, 3, 3), torch.randn(40)]
    return depthwise_conv2d_silu, depthwise_conv2d_silu_naive, tensors, []


def merge(public, naive, dtype, norm=False):
    def call(function):
        def run(y, x_and_z, *weights):
            output_norm = [OutputNorm(*weights[6:], EPS)] if norm else []
            z = x_and_z[..., 40:]  # half of a wider tensor, as in the mixers
            return function(y, z, ChannelGate(*weights[:6], EPS), *output_norm)

        return run

    tensors = [draw(dtype, 2, 3, 143, 40), draw(dtype, 2, 143, 80), *gate_weights(40)]
    return call(public), call(naive), tensors + ([torch.randn(40), torch.randn(40)] if norm else []), []


def gate_merge(dtype):
    return merge(gate_and_merge, gate_and_merge_naive, dtype)


def merge_norm(dtype):
    return merge(merge_and_normalise, merge_and_normalise_naive, dtype, norm=True)


def add_norm(dtype):
    def call(function):
        return lambda hidden, residual, weight, *tables: function(hidden, residual, weight, EPS, tables)

    tensors = [draw(dtype, 2, 29, 40), torch.randn(2, 29, 40), torch.randn(40)]
    tables = [torch.randn(29, 40), torch.randn(29, 40)]
    return call(add_rotate_rms_norm), call(add_rotate_rms_norm_naive), tensors, tables


def results(function, tensors, constants):
    """Run forward and backward, with the same gradients for any dtype and device; everything in float64 on the CPU."""
    leaves = [x.detach().requires_grad_() for x in tensors]
    outputs = function(*leaves, *constants)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    generator = torch.Generator().manual_seed(1)
    grads = [torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x) for x in outputs]
    return [x.detach().double().cpu() for x in (*outputs, *torch.autograd.grad(outputs, leaves, grads))]


@PRECISIONS
@pytest.mark.parametrize('make', [causal_conv, depthwise_conv, gate_merge, merge_norm, add_norm])
def test_an_operation_agrees_with_its_naive_function(make, dtype, tolerance, device) -> None:
    public, naive, tensors, constants = make(dtype)
    got = results(public, [x.to(device) for x in tensors], [x.to(device) for x in constants])
    want = results(
        naive, [x.double() for x in tensors], [x if x.dtype == torch.int32 else x.double() for x in constants]
    )

    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        assert a.shape == b.shape, i
        scale = max(b.abs().max().item(), 1.0)
        assert (a - b).abs().max() <= tolerance * scale, f'output or gradient {i}'


@PRECISIONS
@pytest.mark.parametrize('spatial', [True, False])
@pytest.mark.parametrize('factors', [True, False])
def test_the_scan_agrees_with_the_reference(factors, spatial, dtype, tolerance, device) -> None:
    problem = make_problem(13, 11, DIRECTIONS, channels=40, d_state=16, batch=2, dtype=dtype, spatial=spatial)
    problem = in_factors(problem) if factors else problem
    want = truth(problem)
    problem = on_device(problem, device)
    inputs = map_tensors(problem.inputs, lambda x: x.requires_grad_())
    y = local_selective_scan(inputs)
    got = [y, *torch.autograd.grad(y, tensors_of(inputs), problem.grad)]

    for value, (name, expected) in zip(got, want.items(), strict=True):
        difference = (value.detach().cpu().double() - expected).abs().max()
        # With factors, back ends that do not expand steps themselves round them to the dtype of the tokens.
        assert difference <= 4 * tolerance * max(expected.abs().max().item(), 1.0), name


@pytest.mark.parametrize('name', backends.BACKENDS)
@PRECISIONS
def test_every_back_end_that_can_run_agrees(name, dtype, tolerance, device) -> None:
    reason = available_backends(device)[name]
    if reason is not None:
        pytest.skip(f'{name}: {reason}')
    problem = make_problem(13, 11, DIRECTIONS, channels=40, d_state=16, batch=2, dtype=dtype)

    assert_agrees(backends.load_backend(name), on_device(problem, device), tolerance)


@pytest.mark.parametrize('size', [(1, 1), (7, 1), (56, 56), (50, 84)])
def test_map_sizes_of_the_models(size, device) -> None:
    problem = make_problem(*size, DIRECTIONS, channels=48, d_state=8, dtype=torch.float32)
    name = backends.backend_for(device)

    assert_agrees(backends.load_backend(name), on_device(problem, device), 5e-5)


def test_the_self_check_passes(device) -> None:
    assert self_check(backends.load_backend(backends.backend_for(device)), torch.device(device)) is None


def test_orders_are_the_same_everywhere(device) -> None:
    for size in [(1, 1), (13, 11), (14, 14)]:
        for middle in (False, True):
            made = scan_orders(DIRECTIONS, *size, middle_token=middle, device=device)
            assert made.device.type == device
            assert torch.equal(made.cpu(), scan_orders(DIRECTIONS, *size, middle_token=middle))
