"""The helper that registers operations, on one of its own, and what it promises for all of ours."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmlocalmamba.directions import scan_orders
from mmlocalmamba.ops import (
    ChannelGate,
    OutputNorm,
    add_rotate_rms_norm,
    depthwise_conv2d_silu,
    gate_and_merge,
    local_causal_conv1d,
    local_selective_scan,
    merge_and_normalise,
)
from mmlocalmamba.ops.backends import cpu
from mmlocalmamba.ops.registration import register_operation

from .problems import make_problem

needs_library = pytest.mark.skipif(cpu.why_not('cpu') is not None, reason='the C++ library is not built')


def forward(x, shift, scale, factor):
    kept = x * factor
    return kept * scale + (0 if shift is None else shift), kept


def backward(grad_y, x, shift, scale, kept, factor):
    grads = [
        grad_y * scale * factor,
        None if shift is None else grad_y.clone(),
        grad_y * kept,
    ]
    return [grad for grad in grads if grad is not None]


affine = register_operation(
    'affine_of_a_test(Tensor x, Tensor? shift, Tensor scale, float factor) -> (Tensor y, Tensor kept)',
    forward=forward,
    fake=lambda x, shift, scale, factor: (x.new_empty(x.shape), x.new_empty(x.shape)),
    backward=backward,
    saved=('x', 'shift', 'scale', 'kept'),
    gradients={'x': 'x', 'shift': 'shift', 'scale': 'scale'},
    naive='forward',
)


@pytest.mark.parametrize('shifted', [True, False])
def test_gradients_are_those_of_autograd(shifted) -> None:
    x, shift, scale = (torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(3))
    leaves = [x, shift, scale] if shifted else [x, scale]
    arguments = (x, shift if shifted else None, scale, 3.0)

    for got, want in zip(
        torch.autograd.grad(affine(*arguments)[0].square().sum(), leaves),
        torch.autograd.grad(forward(*arguments)[0].square().sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize('shifted', [True, False])
def test_it_passes_the_checks_of_pytorch(shifted) -> None:
    x, shift, scale = (torch.randn(3, requires_grad=True) for _ in range(3))
    arguments = (x, shift if shifted else None, scale, 3.0)

    torch.library.opcheck(torch.ops.mmlocalmamba.affine_of_a_test.default, arguments)
    backward_operation = torch.ops.mmlocalmamba.affine_of_a_test_backward.default
    saved = [None if t is None else t.detach() for t in (x, x, arguments[1], scale, x)]
    torch.library.opcheck(backward_operation, (*saved, 3.0), test_utils=('test_schema', 'test_faketensor'))


def test_what_is_only_kept_has_no_gradient() -> None:
    x, scale = torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True)
    y, kept = affine(x, None, scale, 3.0)

    assert y.requires_grad
    assert not kept.requires_grad


def test_no_zeros_are_made_for_what_is_only_kept() -> None:
    class Zeros(TorchDispatchMode):
        made = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.made += 'zeros' in func.name()
            return func(*args, **(kwargs or {}))

    x, scale = torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True)
    y, _ = affine(x, None, scale, 3.0)
    with Zeros() as mode:
        torch.autograd.grad(y, [x, scale], torch.ones(3))

    assert mode.made == 0


def run_scan() -> tuple[torch.Tensor, list[torch.Tensor]]:
    inputs = make_problem(3, 4, dtype=torch.float32).inputs
    return local_selective_scan(inputs._replace(u=inputs.u.requires_grad_())), [inputs.u]


def run_causal_conv() -> tuple[torch.Tensor, list[torch.Tensor]]:
    x, weight, bias = torch.randn(1, 6, 4, requires_grad=True), torch.randn(2, 4, 4), torch.randn(2, 4)
    return local_causal_conv1d(x, weight, bias, scan_orders(['h', 'v'], 2, 3)), [x]


def run_depthwise_conv() -> tuple[torch.Tensor, list[torch.Tensor]]:
    x = torch.randn(1, 3, 4, 5, requires_grad=True)
    return depthwise_conv2d_silu(x, torch.randn(5, 1, 3, 3), torch.randn(5)), [x]


def run_add_norm() -> tuple[torch.Tensor, list[torch.Tensor]]:
    x = torch.randn(1, 6, 4, requires_grad=True)
    return add_rotate_rms_norm(x, None, torch.randn(4), 1e-5)[0], [x]


def merge_arguments() -> tuple[torch.Tensor, torch.Tensor, ChannelGate]:
    y, z = torch.randn(1, 2, 6, 4, requires_grad=True), torch.randn(1, 6, 4)
    shapes = [(4,), (4,), (2, 4), (2,), (4, 2), (4,)]
    return y, z, ChannelGate(*(torch.randn(shape) for shape in shapes))


def run_gate_and_merge() -> tuple[torch.Tensor, list[torch.Tensor]]:
    y, z, gate = merge_arguments()
    return gate_and_merge(y, z, gate), [y]


def run_merge_and_normalise() -> tuple[torch.Tensor, list[torch.Tensor]]:
    y, z, gate = merge_arguments()
    return merge_and_normalise(y, z, gate, OutputNorm(torch.randn(4), torch.randn(4))), [y]


@needs_library
@pytest.mark.parametrize(
    ('run', 'naive'),
    [
        (run_scan, 'mmlocalmamba.ops.backends.reference.selective_scan_naive'),
        (run_causal_conv, 'mmlocalmamba.ops.causal_conv.causal_conv1d_naive'),
        (run_depthwise_conv, 'mmlocalmamba.ops.depthwise_conv.depthwise_conv2d_silu_naive'),
        (run_add_norm, 'mmlocalmamba.ops.add_norm.add_rotate_rms_norm_naive'),
        (run_gate_and_merge, 'mmlocalmamba.ops.gate_and_merge.gate_and_merge_naive'),
        (run_merge_and_normalise, 'mmlocalmamba.ops.merge_and_normalise.merge_and_normalise_naive'),
    ],
)
def test_second_derivatives_are_refused_and_the_naive_function_is_named(run, naive) -> None:
    out, leaves = run()
    grads = torch.autograd.grad(out.square().sum(), leaves, create_graph=True)

    with pytest.raises(RuntimeError, match=rf'has no second derivative: .* or use {naive}'):
        grads[0].sum().backward()
    module, _, function = naive.rpartition('.')
    assert callable(getattr(__import__(module, fromlist=[function]), function))
