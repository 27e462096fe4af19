"""The helper that registers operations, on one of its own, and what it promises for all of ours."""

from functools import partial

import pytest
import torch
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode

from mmlocalmamba.directions import scan_orders
from mmlocalmamba.ops import (
    ChannelGate,
    OutputNorm,
    ScanInputs,
    add_rotate_rms_norm,
    depthwise_conv2d_silu,
    gate_and_merge,
    local_causal_conv1d,
    local_selective_scan,
    merge_and_normalise,
)
from mmlocalmamba.ops.add_norm import add_rotate_rms_norm_naive
from mmlocalmamba.ops.backends import cpu
from mmlocalmamba.ops.backends.reference import selective_scan_naive
from mmlocalmamba.ops.causal_conv import causal_conv1d_naive
from mmlocalmamba.ops.depthwise_conv import depthwise_conv2d_silu_naive
from mmlocalmamba.ops.gate_and_merge import gate_and_merge_naive
from mmlocalmamba.ops.merge_and_normalise import merge_and_normalise_naive
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


# The transforms of torch.func, and forward mode.


CALLS = {
    'selective_scan': (
        local_selective_scan,
        selective_scan_naive,
        lambda: make_problem(2, 3, dtype=torch.float32).inputs[:7],
        lambda function, *x: function(ScanInputs(*x, scan_orders(('h', 'w2_flip'), 2, 3))),
    ),
    'causal_conv1d': (
        local_causal_conv1d,
        causal_conv1d_naive,
        lambda: (torch.randn(1, 6, 4), torch.randn(2, 4, 4), torch.randn(2, 4)),
        lambda function, *x: function(*x, scan_orders(['h', 'v'], 2, 3)),
    ),
    'depthwise_conv2d_silu': (
        depthwise_conv2d_silu,
        depthwise_conv2d_silu_naive,
        lambda: (torch.randn(1, 3, 4, 5), torch.randn(5, 1, 3, 3), torch.randn(5)),
        lambda function, *x: function(*x),
    ),
    'add_rotate_rms_norm': (
        add_rotate_rms_norm,
        add_rotate_rms_norm_naive,
        lambda: (torch.randn(1, 6, 4), torch.randn(1, 6, 4), torch.randn(4)),
        lambda function, *x: torch.cat(function(*x, 1e-5)),
    ),
    'gate_and_merge': (
        gate_and_merge,
        gate_and_merge_naive,
        lambda: (*merge_arguments()[:2], *merge_arguments()[2].tensors),
        lambda function, y, z, *x: function(y, z, ChannelGate(*x)),
    ),
    'merge_and_normalise': (
        merge_and_normalise,
        merge_and_normalise_naive,
        lambda: (*merge_arguments()[:2], *merge_arguments()[2].tensors, torch.randn(4), torch.randn(4)),
        lambda function, y, z, *x: function(y, z, ChannelGate(*x[:6]), OutputNorm(*x[6:])),
    ),
}


@pytest.fixture(params=CALLS)
def functions(request):
    """The public function and the naive one, as functions of tensors alone, and tensors."""
    public, naive, draw, call = CALLS[request.param]
    tensors = tuple(x.detach() for x in draw())
    return partial(call, public), partial(call, naive), tensors


@needs_library
def test_torch_func_gives_gradients(functions) -> None:
    public, naive, tensors = functions
    places = tuple(range(len(tensors)))

    got = torch.func.grad(lambda *x: public(*x).square().sum(), places)(*tensors)
    want = torch.func.grad(lambda *x: naive(*x).square().sum(), places)(*tensors)

    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@needs_library
@pytest.mark.parametrize('grad', [True, False])
def test_vmap_gives_what_single_calls_give(functions, grad) -> None:
    public, _, (first, *others) = functions
    samples = torch.stack([first, 2 * first, -first])

    with torch.set_grad_enabled(grad):
        got = torch.vmap(lambda x: public(x, *others))(samples)

    torch.testing.assert_close(got, torch.stack([public(x, *others) for x in samples]))


@needs_library
def test_gradients_of_every_sample(functions) -> None:
    public, naive, (first, *others) = functions
    samples = torch.stack([first, 2 * first])

    def gradients(function):
        return torch.vmap(torch.func.grad(lambda x: function(x, *others).square().sum()))(samples)

    torch.testing.assert_close(gradients(public), gradients(naive), rtol=1e-3, atol=1e-3)


@needs_library
@pytest.mark.parametrize('place', [0, -1])
@pytest.mark.parametrize('grad', [True, False])
def test_forward_mode_is_refused_and_the_naive_function_is_named(functions, grad, place) -> None:
    public, naive, tensors = functions

    def tangent_of(function):
        with forward_ad.dual_level(), torch.set_grad_enabled(grad):
            duals = [*tensors]
            duals[place] = forward_ad.make_dual(
                tensors[place].clone().requires_grad_(grad), torch.ones_like(tensors[place])
            )
            return forward_ad.unpack_dual(function(*duals)).tangent

    with pytest.raises(RuntimeError, match=r'no forward-mode derivative .* or mmlocalmamba\.ops\..*_naive'):
        tangent_of(public)
    assert tangent_of(naive).abs().sum() > 0
    with pytest.raises(RuntimeError, match='no forward-mode derivative'):
        torch.func.jvp(public, tensors, tensors)
    with pytest.raises(RuntimeError, match='no forward-mode derivative'):
        torch.func.jacfwd(public)(*tensors)


@needs_library
def test_the_dispatcher_refuses_forward_mode_too() -> None:
    def convolve(x):
        return torch.ops.mmlocalmamba.depthwise_conv2d_silu(x, torch.ones(5, 1, 3, 3), torch.ones(5))

    x = torch.randn(1, 3, 4, 5)
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match='forward-mode|forward mode'):
        convolve(forward_ad.make_dual(x, x))
    with pytest.raises(RuntimeError, match='no forward-mode derivative'):
        torch.func.jvp(convolve, (x,), (x,))
    torch.testing.assert_close(
        torch.func.grad(lambda x: convolve(x).sum())(x),
        torch.func.grad(lambda x: depthwise_conv2d_silu_naive(x, torch.ones(5, 1, 3, 3), torch.ones(5)).sum())(x),
    )


@needs_library
def test_tensors_without_tangents_are_fine_where_others_have_some() -> None:
    x = torch.randn(1, 3, 4, 5)
    want = depthwise_conv2d_silu(x, torch.ones(5, 1, 3, 3))
    with forward_ad.dual_level():
        forward_ad.make_dual(x, x)
        torch.testing.assert_close(depthwise_conv2d_silu(x, torch.ones(5, 1, 3, 3)), want)


@needs_library
def test_a_second_derivative_is_refused_inside_torch_func() -> None:
    def convolve(x):
        return depthwise_conv2d_silu(x, torch.ones(5, 1, 3, 3)).square().sum()

    with pytest.raises(RuntimeError, match='has no second derivative'):
        torch.func.grad(lambda x: torch.func.grad(convolve)(x).sum())(torch.randn(1, 3, 4, 5))
