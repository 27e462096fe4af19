import pytest
import torch
import torch.nn.functional as F

from mmlocalmamba.directions import scan_orders
from mmlocalmamba.ops import local_causal_conv1d
from mmlocalmamba.ops.backends import cpu
from mmlocalmamba.ops.causal_conv import _causal_conv1d, causal_conv1d_naive

DIRECTIONS = ('h', 'v_flip', 'w2', 'w7_flip')
needs_library = pytest.mark.skipif(cpu.why_not('cpu') is not None, reason='the C++ library is not built')


def draw(height, width, channels=19, taps=4, dtype=torch.float64, batch=2):
    """Give x, weight, bias, order and a gradient of the output."""
    order = scan_orders(DIRECTIONS, height, width)
    k, length = order.shape
    full = torch.promote_types(dtype, torch.float32)
    x = torch.randn(batch, height * width, channels).to(dtype)
    grad = torch.randn(batch, length, k, channels).to(dtype)
    return x, torch.randn(k, channels, taps, dtype=full), torch.randn(k, channels, dtype=full), order, grad


def grads_of(function, inputs, order, grad):
    leaves = [t.detach().clone().requires_grad_() for t in inputs]
    y = function(*leaves, order)
    return y.detach(), *torch.autograd.grad(y, leaves, grad)


def test_naive_is_a_convolution_of_each_sequence() -> None:
    x, weight, bias, order, _ = draw(3, 5)
    got = causal_conv1d_naive(x, weight, bias, order)

    for k, sequence in enumerate(order.long()):
        tokens = torch.where((sequence >= 0)[:, None], x[:, sequence.clamp(min=0)], 0).transpose(1, 2)
        want = F.conv1d(F.pad(tokens, (3, 0)), weight[k, :, None], bias[k], groups=x.shape[-1])
        torch.testing.assert_close(got[:, :, k], F.silu(want).transpose(1, 2))


@needs_library
@pytest.mark.parametrize('size', [(1, 1), (1, 9), (9, 1), (3, 5), (13, 11)])
@pytest.mark.parametrize(
    ('dtype', 'tolerance'),
    [(torch.float64, 1e-12), (torch.float32, 3e-6), (torch.bfloat16, 1e-2), (torch.float16, 1.5e-3)],
)
def test_kernel_agrees_with_naive(size, dtype, tolerance) -> None:
    *inputs, order, grad = draw(*size, dtype=dtype)
    got = grads_of(_causal_conv1d, inputs, order, grad)
    want = grads_of(causal_conv1d_naive, [x.double() for x in inputs], order, grad.double())

    for name, a, b, like in zip(('y', 'd_x', 'd_weight', 'd_bias'), got, want, (grad, *inputs), strict=True):
        assert a.dtype == like.dtype, name
        assert (a.double() - b).abs().max() <= tolerance * max(b.abs().max().item(), 1.0), name


@needs_library
@pytest.mark.parametrize('taps', [1, 2, 4, 7])
@pytest.mark.parametrize('channels', [1, 16, 33])
def test_kernel_of_any_width(channels, taps) -> None:
    *inputs, order, grad = draw(4, 5, channels=channels, taps=taps)
    got, want = (grads_of(f, inputs, order, grad) for f in (_causal_conv1d, causal_conv1d_naive))

    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


@needs_library
def test_kernel_takes_strided_tokens_and_gradients() -> None:
    x, weight, bias, order, grad = draw(4, 5)
    strided = torch.cat([x, x], -1)[..., : x.shape[-1]]
    grad = grad.transpose(1, 2).contiguous().transpose(1, 2)
    got, want = (grads_of(f, (strided, weight, bias), order, grad) for f in (_causal_conv1d, causal_conv1d_naive))

    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


@needs_library
def test_empty_batch() -> None:
    *inputs, order, grad = draw(3, 4, batch=0)
    y, d_x, d_weight, d_bias = grads_of(_causal_conv1d, inputs, order, grad)

    assert y.shape == grad.shape
    assert d_x.shape == inputs[0].shape
    assert not d_weight.any()
    assert not d_bias.any()


@needs_library
def test_results_do_not_depend_on_thread_count() -> None:
    *inputs, order, grad = draw(13, 11, channels=80, dtype=torch.float32)
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        results.append(grads_of(_causal_conv1d, inputs, order, grad))
    torch.set_num_threads(1)

    assert all(torch.equal(one, three) for one, three in zip(*results, strict=True))


@needs_library
def test_registration() -> None:
    *inputs, order, grad = draw(2, 3, dtype=torch.float32)
    tests = ('test_schema', 'test_autograd_registration', 'test_faketensor')
    operation = torch.ops.mmlocalmamba.causal_conv1d.default
    torch.library.opcheck(operation, (*[x.requires_grad_() for x in inputs], order), test_utils=tests)
    detached = [x.detach() for x in inputs]
    torch.library.opcheck(
        torch.ops.mmlocalmamba.causal_conv1d_backward.default,
        (grad, *detached, order),
        test_utils=('test_schema', 'test_faketensor'),
    )


def test_shapes_that_do_not_fit_are_refused() -> None:
    x, weight, bias, order, _ = draw(3, 4)

    with pytest.raises(ValueError, match=r'weight \(4, 18, 4\) and bias .* do not fit'):
        local_causal_conv1d(x, weight[:, 1:], bias[:, 1:], order)


@pytest.mark.parametrize(('place', 'value', 'message'), [((0, 0), 12, '12'), ((1, 2), -2, '-2')])
@pytest.mark.parametrize('function', [local_causal_conv1d, causal_conv1d_naive])
def test_orders_that_name_no_token_are_refused(function, place, value, message) -> None:
    x, weight, bias, order, _ = draw(3, 4)
    order = order.clone()
    order[place] = value

    with pytest.raises(ValueError, match=message):
        function(x, weight, bias, order)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(x=torch.zeros(1, 2, 6, 4)), r'x must be \(Bt, L, D\)'),
        (dict(order=torch.zeros(1, 2, 6, dtype=torch.int32)), r'order int32 \(K, L_scan\)'),
        (dict(order=torch.zeros(2, 6, dtype=torch.int64)), 'order int32'),
        (dict(weight=torch.zeros(2, 4, 0)), 'do not fit'),
        (dict(bias=torch.zeros(2, 4, device='meta')), 'bias is on meta, but x is on cpu'),
    ],
)
def test_arguments_of_another_kind_are_refused(change, message) -> None:
    arguments = dict(
        x=torch.zeros(1, 6, 4),
        weight=torch.zeros(2, 4, 4),
        bias=torch.zeros(2, 4),
        order=torch.zeros(2, 6, dtype=torch.int32),
    )

    with pytest.raises(ValueError, match=message):
        local_causal_conv1d(**{**arguments, **change})
