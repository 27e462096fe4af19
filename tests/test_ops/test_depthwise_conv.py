import pytest
import torch
import torch.nn.functional as F

from mmlocalmamba.ops import depthwise_conv2d_silu
from mmlocalmamba.ops.backends import cpu
from mmlocalmamba.ops.depthwise_conv import (
    _depthwise_conv2d_silu,
    depthwise_conv2d_silu_naive,
)

NAMES = ('y', 'd_x', 'd_weight', 'd_bias')
INSTRUCTION_SETS = cpu.library().instruction_sets() if cpu.why_not('cpu') is None else []
needs_library = pytest.mark.skipif(not INSTRUCTION_SETS, reason='the C++ library is not built')


@pytest.fixture(params=INSTRUCTION_SETS or ['none'])
def instruction_set(request):
    """Run a test with every instruction set that this processor has."""
    cpu.library().use_instruction_set(request.param)
    yield request.param
    cpu.library().use_instruction_set(INSTRUCTION_SETS[0])


def draw(height, width, channels=19, dtype=torch.float64, batch=2, kernel_size=(3, 3)):
    """Give x, weight, bias and a gradient of the output."""
    full = torch.promote_types(dtype, torch.float32)
    x, grad = (torch.randn(batch, height, width, channels).to(dtype) for _ in range(2))
    return x, torch.randn(channels, 1, *kernel_size, dtype=full), torch.randn(channels, dtype=full), grad


def grads_of(function, inputs, grad):
    leaves = [t.detach().requires_grad_() for t in inputs]
    y = function(*leaves)
    return y.detach(), *torch.autograd.grad(y, leaves, grad)


def wanted(inputs, grad):
    return grads_of(depthwise_conv2d_silu_naive, [t.double() for t in inputs], grad.double())


def test_naive_is_a_convolution_and_silu() -> None:
    x, weight, bias, _ = draw(3, 5, channels=2, batch=1)
    padded = F.pad(x[0], (0, 0, 1, 1, 1, 1))
    want = torch.empty_like(x[0])
    for row, column in torch.cartesian_prod(torch.arange(3), torch.arange(5)).tolist():
        window = padded[row : row + 3, column : column + 3].permute(2, 0, 1)
        want[row, column] = F.silu((window * weight[:, 0]).sum((1, 2)) + bias)

    torch.testing.assert_close(depthwise_conv2d_silu_naive(x, weight, bias)[0], want)


@needs_library
@pytest.mark.usefixtures('instruction_set')
@pytest.mark.parametrize('size', [(1, 1), (1, 9), (9, 1), (2, 2), (3, 5), (13, 11)])
@pytest.mark.parametrize(
    ('dtype', 'tolerance'),
    [(torch.float64, 1e-12), (torch.float32, 3e-6), (torch.bfloat16, 1e-2), (torch.float16, 1.5e-3)],
)
def test_kernel_agrees_with_naive(size, dtype, tolerance) -> None:
    *inputs, grad = draw(*size, dtype=dtype)
    got, want = grads_of(_depthwise_conv2d_silu, inputs, grad), wanted(inputs, grad)

    for name, a, b, like in zip(NAMES, got, want, (grad, *inputs), strict=True):
        assert a.dtype == like.dtype, name
        assert a.is_contiguous(), name
        assert (a.double() - b).abs().max() <= tolerance * max(b.abs().max().item(), 1.0), name


@needs_library
@pytest.mark.usefixtures('instruction_set')
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_numbers_are_rounded_as_pytorch_does(dtype) -> None:
    x, weight, bias, _ = draw(9, 9, channels=37, dtype=dtype)
    x *= torch.logspace(-12, 8, 37, base=10).to(dtype)  # from subnormal to infinite
    x[0, 0, 0] = torch.nan

    got, want = (depthwise_conv2d_silu(x, weight, bias * 1e-7) for x in (x, x.float()))
    torch.testing.assert_close(got, want.to(dtype), rtol=0, atol=0, equal_nan=True)


@needs_library
@pytest.mark.usefixtures('instruction_set')
@pytest.mark.parametrize('channels', [1, 4, 16, 31, 32, 33, 80])
def test_kernel_of_any_number_of_channels(channels) -> None:
    *inputs, grad = draw(4, 5, channels=channels, dtype=torch.float32)

    for name, a, b in zip(NAMES, grads_of(_depthwise_conv2d_silu, inputs, grad), wanted(inputs, grad), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-5, msg=lambda text, name=name: f'{name}: {text}')


def halves(x):
    """Give channels that lie in rows twice as long, as in_proj gives them."""
    return torch.cat([torch.full_like(x, torch.nan), x], -1).chunk(2, -1)[1]


def crop(x):
    """Give a map that is a part of a larger one."""
    return F.pad(x, (0, 0, 1, 2, 1, 0), value=torch.nan)[:, 1:, 1:-2]


def transposed(x):
    """Give a map whose columns lie one after the other."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


def channels_first(x):
    return x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)


@needs_library
@pytest.mark.parametrize('view', [halves, crop, transposed, channels_first])
def test_kernel_takes_views(view) -> None:
    x, *parameters, grad = draw(4, 5)
    got = grads_of(_depthwise_conv2d_silu, [view(x), *parameters], view(grad))

    for name, a, b in zip(NAMES, got, wanted([x, *parameters], grad), strict=True):
        torch.testing.assert_close(a, b, msg=lambda text, name=name: f'{name}: {text}')


@needs_library
def test_kernel_takes_an_expanded_gradient() -> None:
    *inputs, grad = draw(4, 5)
    grad = torch.ones(()).to(grad.dtype).expand_as(grad)

    for a, b in zip(grads_of(_depthwise_conv2d_silu, inputs, grad), wanted(inputs, grad), strict=True):
        torch.testing.assert_close(a, b)


@needs_library
@pytest.mark.parametrize('weight_dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
def test_weights_of_another_type(dtype, weight_dtype) -> None:
    x, *parameters, grad = draw(3, 4, dtype=dtype)
    inputs = [x, *(p.to(weight_dtype) for p in parameters)]
    got = grads_of(depthwise_conv2d_silu, inputs, grad)

    assert [a.dtype for a in got] == [dtype, dtype, weight_dtype, weight_dtype]
    for a, b in zip(got, wanted(inputs, grad), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=2e-2, atol=2e-2)
    naive = grads_of(depthwise_conv2d_silu_naive, inputs, grad)
    assert [a.dtype for a in naive] == [a.dtype for a in got]


@needs_library
@pytest.mark.parametrize('size', [(0, 3, 4), (2, 0, 4), (2, 3, 0)])
def test_empty_maps(size) -> None:
    batch, height, width = size
    *inputs, grad = draw(height, width, batch=batch)
    y, d_x, d_weight, d_bias = grads_of(depthwise_conv2d_silu, inputs, grad)

    assert y.shape == grad.shape
    assert d_x.shape == inputs[0].shape
    assert d_weight.shape == inputs[1].shape
    assert not d_weight.any()
    assert not d_bias.any()


@needs_library
def test_results_do_not_depend_on_thread_count() -> None:
    *inputs, grad = draw(13, 11, channels=80, dtype=torch.float32)
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(grads_of(_depthwise_conv2d_silu, inputs, grad))
    torch.set_num_threads(1)

    for result in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(results[0], result, strict=True))


@needs_library
@pytest.mark.parametrize('index', range(3), ids=['x', 'weight', 'bias'])
def test_gradient_of_each_input_alone(index) -> None:
    *inputs, grad = draw(4, 5)
    inputs[index].requires_grad_()
    (got,) = torch.autograd.grad(depthwise_conv2d_silu(*inputs), [inputs[index]], grad)

    torch.testing.assert_close(got, wanted([t.detach() for t in inputs], grad)[1 + index])


@needs_library
def test_not_a_number_spreads_only_to_neighbours_in_its_channel() -> None:
    x, weight, bias, _ = draw(5, 6, dtype=torch.float32, batch=1)
    x[0, 2, 0, 3] = torch.nan
    bad = depthwise_conv2d_silu(x, weight, bias).isnan()

    assert bad[0, 1:4, :2, 3].all()
    assert bad.sum() == 6


@pytest.mark.parametrize('kernel_size', [(1, 1), (1, 3), (5, 5), (7, 3)])
def test_any_odd_kernel_keeps_the_size(kernel_size) -> None:
    *inputs, grad = draw(4, 5, kernel_size=kernel_size)

    for a, b in zip(grads_of(depthwise_conv2d_silu, inputs, grad), wanted(inputs, grad), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
def test_autocast_gives_the_type_that_conv2d_gives(dtype) -> None:
    x, weight, bias, _ = draw(3, 4, dtype=dtype)
    conv = torch.nn.Conv2d(19, 19, 3, padding=1, groups=19).to(weight.dtype)
    conv.load_state_dict(dict(weight=weight, bias=bias))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        want = F.silu(conv(x.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
        got = depthwise_conv2d_silu(x, weight, bias)

    assert got.dtype == want.dtype
    torch.testing.assert_close(got, want, rtol=4e-2, atol=4e-2)


@needs_library
def test_registration() -> None:
    *inputs, grad = draw(2, 3, dtype=torch.float32)
    tests = ('test_schema', 'test_autograd_registration', 'test_faketensor')
    operation = torch.ops.mmlocalmamba.depthwise_conv2d_silu.default
    torch.library.opcheck(operation, [x.requires_grad_() for x in inputs], test_utils=tests)
    detached = [x.detach() for x in inputs]
    torch.library.opcheck(
        torch.ops.mmlocalmamba.depthwise_conv2d_silu_backward.default,
        (grad, *detached),
        test_utils=('test_schema', 'test_faketensor'),
    )


def test_what_does_not_fit_is_refused() -> None:
    x, weight, bias, _ = draw(3, 4)

    with pytest.raises(ValueError, match=r'x must be a map \(B, H, W, D\), channels last, got \(2, 12, 19\)'):
        depthwise_conv2d_silu(x.flatten(1, 2), weight, bias)
    with pytest.raises(ValueError, match=r'weight \(18, 1, 3, 3\) and bias .* do not fit: .* wants \(19, 1, height'):
        depthwise_conv2d_silu(x, weight[1:], bias)
    with pytest.raises(ValueError, match='the kernel is 2 x 3: both sides must be odd'):
        depthwise_conv2d_silu(x, weight[:, :, 1:], bias)
