import pytest
import torch
import torch.nn.functional as F

from mmlocalmamba.ops import merge_scans
from mmlocalmamba.ops.backends import cpu
from mmlocalmamba.ops.merge import _merge_scans, _merge_scans_backward, merge_scans_naive

EPS = 1e-5
WEIGHTS = ('norm_weight', 'norm_bias', 'reduce_weight', 'reduce_bias', 'select_weight', 'select_bias')
NAMES = ('out', 'd_y', 'd_z', *(f'd_{name}' for name in WEIGHTS))
needs_extension = pytest.mark.skipif(cpu.why_not('cpu') is not None, reason='the C++ extension is not built')
INSTRUCTION_SETS = cpu.extension().instruction_sets() if cpu.why_not('cpu') is None else []


@pytest.fixture(params=INSTRUCTION_SETS)
def instruction_set(request):
    cpu.extension().use_instruction_set(request.param)
    yield request.param
    cpu.extension().use_instruction_set(INSTRUCTION_SETS[0])


def draw(tokens=37, channels=24, dtype=torch.float64, batch=2, directions=3, hidden=4):
    """Give y, z (half of a wider tensor, as in the mixers) and the six weights."""
    full = torch.promote_types(dtype, torch.float32)
    shapes = [(channels,), (channels,), (hidden, channels), (hidden,), (channels, hidden), (channels,)]
    y = (2 * torch.randn(batch, directions, tokens, channels, dtype=full) + 1).to(dtype)
    z = torch.randn(batch, tokens, 2 * channels, dtype=full).to(dtype)[..., channels:]
    return y, z, *(torch.randn(shape, dtype=full) for shape in shapes)


def results(function, inputs, dtype=None, with_z=True):
    """Run forward and backward; the output and all gradients, None for that of a missing z."""
    leaves = [x.detach().to(dtype or x.dtype).requires_grad_() for x in inputs]
    y, z, *weights = leaves
    out = function(y, weights, z if with_z else None)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(out.dtype)
    return out.detach(), *torch.autograd.grad(out, leaves, grad, allow_unused=True)


def kernel(y, weights, z):
    return _merge_scans(y, z, weights, EPS)[0]


def naive(y, weights, z):
    return merge_scans_naive(y, weights, z, EPS)


def assert_agrees(inputs, tolerance, with_z=True) -> None:
    got, want = results(kernel, inputs, None, with_z), results(naive, inputs, torch.float64, with_z)
    for name, a, b, like in zip(NAMES, got, want, (inputs[0], *inputs), strict=True):
        if b is None:
            assert a is None, name
            continue
        assert a.dtype == like.dtype, name
        assert a.shape == b.shape, name
        assert (a.double() - b).abs().max() <= tolerance * max(b.abs().max().item(), 1.0), name


@pytest.mark.parametrize('with_z', [True, False])
def test_naive_follows_the_formula(with_z) -> None:
    y, z, *weights = draw()
    norm_weight, norm_bias, *layers = weights
    x = y * F.silu(z)[:, None] if with_z else y
    n = F.layer_norm(x, x.shape[-1:], norm_weight, norm_bias, EPS).mean(2, keepdim=True)
    gate = torch.sigmoid(F.linear(F.gelu(F.linear(n, *layers[:2])), *layers[2:]))

    torch.testing.assert_close(merge_scans_naive(y, weights, z if with_z else None), (x * gate).sum(1))


@pytest.mark.usefixtures('instruction_set')
@pytest.mark.parametrize('with_z', [True, False])
@pytest.mark.parametrize(
    ('dtype', 'tolerance'),
    [(torch.float64, 1e-12), (torch.float32, 3e-6), (torch.bfloat16, 1e-2), (torch.float16, 1.5e-3)],
)
def test_kernel_agrees_with_naive(dtype, tolerance, with_z) -> None:
    assert_agrees(draw(dtype=dtype), tolerance, with_z)


@pytest.mark.usefixtures('instruction_set')
@pytest.mark.parametrize('tokens', [1, 31, 32, 65])
@pytest.mark.parametrize('channels', [2, 16, 33])
def test_kernel_takes_any_size(channels, tokens) -> None:
    assert_agrees(draw(tokens, channels), 1e-10)


@needs_extension
def test_kernel_takes_strided_scans() -> None:
    y, *others = draw()
    y = y.transpose(1, 2).contiguous().transpose(1, 2)

    assert_agrees((y, *others), 1e-12)


@needs_extension
def test_large_means_do_not_spoil_the_moments() -> None:
    y, *others = draw(dtype=torch.float32)

    assert_agrees((y + 1000, *others), 2e-3, with_z=False)


@needs_extension
def test_empty_batch() -> None:
    out, *grads = results(kernel, draw(batch=0))

    assert out.shape == (0, 37, 24)
    assert not any(grad.any() for grad in grads)


@needs_extension
def test_results_do_not_depend_on_thread_count() -> None:
    inputs = draw(tokens=200, channels=80, dtype=torch.float32)
    outcomes = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        outcomes.append(results(kernel, inputs))
    torch.set_num_threads(1)

    assert all(torch.equal(one, three) for one, three in zip(*outcomes, strict=True))


@needs_extension
@pytest.mark.parametrize('with_z', [True, False])
def test_registration(with_z) -> None:
    y, z, *weights = draw(tokens=5, channels=6, dtype=torch.float32)
    z = z.contiguous() if with_z else None
    leaves = [x.requires_grad_() for x in (y, *weights)]
    tests = ('test_schema', 'test_autograd_registration', 'test_faketensor')
    torch.library.opcheck(_merge_scans, (leaves[0], z, leaves[1:], EPS), test_utils=tests)
    y, *weights = (x.detach() for x in leaves)
    out, mean, gates = _merge_scans(y, z, weights, EPS)
    arguments = (torch.ones_like(out), y, z, weights, mean, gates, EPS)
    torch.library.opcheck(_merge_scans_backward, arguments, test_utils=('test_schema', 'test_faketensor'))


def test_autocast_keeps_the_dtype_of_the_scans() -> None:
    y, z, *weights = draw(dtype=torch.float32)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = merge_scans(y, weights, z.bfloat16())

    assert out.dtype == torch.float32
    torch.testing.assert_close(out, merge_scans_naive(y, weights, z.bfloat16()))


def test_shapes_that_do_not_fit_are_refused() -> None:
    y, z, *weights = draw()

    with pytest.raises(ValueError, match=r'weights have shapes .* wants'):
        merge_scans(y, [*weights[:5], weights[5][1:]], z)
    with pytest.raises(ValueError, match=r'z has shape \(2, 36, 24\), but y'):
        merge_scans(y, weights, z[:, 1:])
