import pytest
import torch
import torch.nn.functional as F

from mmlocalmamba.ops import merge_scans
from mmlocalmamba.ops.backends import cpu
from mmlocalmamba.ops.merge import _merge_scans, _merge_scans_backward, merge_scans_naive

EPS = 1e-5
WEIGHTS = ('norm_weight', 'norm_bias', 'reduce_weight', 'reduce_bias', 'select_weight', 'select_bias')
NORM = ('sum_norm_weight', 'sum_norm_bias')
NAMES = ('out', 'd_y', 'd_z', *(f'd_{name}' for name in (*WEIGHTS, *NORM)))
MODES = ('alone', 'gated', 'normed')
"""Without z; with z, which gates first; with a norm of the sum and z, which gates last."""
needs_extension = pytest.mark.skipif(cpu.why_not('cpu') is not None, reason='the C++ extension is not built')
INSTRUCTION_SETS = cpu.extension().instruction_sets() if cpu.why_not('cpu') is None else []


@pytest.fixture(params=INSTRUCTION_SETS)
def instruction_set(request):
    cpu.extension().use_instruction_set(request.param)
    yield request.param
    cpu.extension().use_instruction_set(INSTRUCTION_SETS[0])


def draw(tokens=37, channels=24, dtype=torch.float64, batch=2, directions=3, hidden=4):
    """Give y, z (half of a wider tensor, as in the mixers), the six weights, and two of a norm of the sum."""
    full = torch.promote_types(dtype, torch.float32)
    shapes = [(channels,), (channels,), (hidden, channels), (hidden,), (channels, hidden)] + 3 * [(channels,)]
    y = (2 * torch.randn(batch, directions, tokens, channels, dtype=full) + 1).to(dtype)
    z = torch.randn(batch, tokens, 2 * channels, dtype=full).to(dtype)[..., channels:]
    return y, z, *(torch.randn(shape, dtype=full) for shape in shapes)


def results(function, inputs, dtype=None, mode='gated'):
    """Run forward and backward; the output and all gradients, None for that of what the mode has no use for."""
    leaves = [x.detach().to(dtype or x.dtype).requires_grad_() for x in inputs]
    y, z, *weights = leaves
    out = function(y, weights[:6], None if mode == 'alone' else z, EPS, weights[6:] if mode == 'normed' else [], EPS)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(out.dtype)
    return out.detach(), *torch.autograd.grad(out, leaves, grad, allow_unused=True)


def kernel(y, weights, z, *options):
    return _merge_scans(y, z, weights, *options)[0]


def assert_agrees(inputs, tolerance, mode='gated') -> None:
    got, want = results(kernel, inputs, None, mode), results(merge_scans_naive, inputs, torch.float64, mode)
    for name, a, b, like in zip(NAMES, got, want, (inputs[0], *inputs), strict=True):
        if b is None:
            assert a is None, name
            continue
        assert a.dtype == like.dtype, name
        assert a.shape == b.shape, name
        assert (a.double() - b).abs().max() <= tolerance * max(b.abs().max().item(), 1.0), name


@pytest.mark.parametrize('mode', MODES)
def test_naive_follows_the_formula(mode) -> None:
    y, z, *weights = draw()
    norm_weight, norm_bias, *layers = weights[:6]
    norm = weights[6:] if mode == 'normed' else []
    x = y * F.silu(z)[:, None] if mode == 'gated' else y
    n = F.layer_norm(x, x.shape[-1:], norm_weight, norm_bias, EPS).mean(2, keepdim=True)
    gate = torch.sigmoid(F.linear(F.gelu(F.linear(n, *layers[:2])), *layers[2:]))
    want = (x * gate).sum(1)
    if norm:
        want = F.layer_norm(want, want.shape[-1:], *norm, EPS) * F.silu(z)

    got = merge_scans_naive(y, weights[:6], None if mode == 'alone' else z, norm=norm)
    torch.testing.assert_close(got, want)


@pytest.mark.usefixtures('instruction_set')
@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize(
    ('dtype', 'tolerance'),
    [(torch.float64, 1e-12), (torch.float32, 3e-6), (torch.bfloat16, 1e-2), (torch.float16, 1.5e-3)],
)
def test_kernel_agrees_with_naive(dtype, tolerance, mode) -> None:
    assert_agrees(draw(dtype=dtype), tolerance, mode)


@pytest.mark.usefixtures('instruction_set')
@pytest.mark.parametrize('tokens', [1, 8, 31, 65, 300])
@pytest.mark.parametrize('channels', [2, 16, 33])
@pytest.mark.parametrize('mode', ['gated', 'normed'])
def test_kernel_takes_any_size(channels, tokens, mode) -> None:
    assert_agrees(draw(tokens, channels), 1e-10, mode)


@needs_extension
def test_kernel_takes_strided_scans() -> None:
    y, *others = draw()
    y = y.transpose(1, 2).contiguous().transpose(1, 2)

    assert_agrees((y, *others), 1e-12)


@needs_extension
def test_large_means_do_not_spoil_the_moments() -> None:
    y, *others = draw(dtype=torch.float32)

    assert_agrees((y + 1000, *others), 2e-3, 'alone')


@needs_extension
@pytest.mark.parametrize('mode', ['gated', 'normed'])
def test_empty_batch(mode) -> None:
    out, *grads = results(kernel, draw(batch=0), mode=mode)

    assert out.shape == (0, 37, 24)
    assert not any(grad is not None and grad.any() for grad in grads)


@needs_extension
def test_results_do_not_depend_on_thread_count() -> None:
    inputs = draw(tokens=200, channels=80, dtype=torch.float32)
    outcomes = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        outcomes.append(results(kernel, inputs, mode='normed'))
    torch.set_num_threads(1)

    assert all(torch.equal(one, three) for one, three in zip(*outcomes, strict=True))


@needs_extension
@pytest.mark.parametrize('mode', MODES)
def test_registration(mode) -> None:
    y, z, *weights = draw(tokens=5, channels=6, dtype=torch.float32)
    z = None if mode == 'alone' else z.contiguous()
    y, *weights = (x.requires_grad_() for x in (y, *weights))
    options = (EPS, weights[6:] if mode == 'normed' else [], EPS)
    tests = ('test_schema', 'test_autograd_registration', 'test_faketensor')
    torch.library.opcheck(_merge_scans, (y, z, weights[:6], *options), test_utils=tests)
    with torch.no_grad():
        out, mean, gates = _merge_scans(y, z, weights[:6], *options)
    y, *weights = (x.detach() for x in (y, *weights))
    options = (EPS, weights[6:] if mode == 'normed' else [], EPS)
    arguments = (torch.ones_like(out), y, z, weights[:6], mean, gates, *options)
    torch.library.opcheck(_merge_scans_backward, arguments, test_utils=('test_schema', 'test_faketensor'))


def test_autocast_keeps_the_dtype_of_the_scans() -> None:
    y, z, *weights = draw(dtype=torch.float32)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = merge_scans(y, weights[:6], z.bfloat16())

    assert out.dtype == torch.float32
    torch.testing.assert_close(out, merge_scans_naive(y, weights[:6], z.bfloat16()))


def test_shapes_that_do_not_fit_are_refused() -> None:
    y, z, *weights = draw()
    weights, norm = weights[:6], weights[6:]

    with pytest.raises(ValueError, match=r'weights have shapes .* wants'):
        merge_scans(y, [*weights[:5], weights[5][1:]], z)
    with pytest.raises(ValueError, match=r'z has shape \(2, 36, 24\), but y'):
        merge_scans(y, weights, z[:, 1:])
    with pytest.raises(ValueError, match=r'norm has shapes \[\(24,\), \(23,\)\], but y .* wants two of \(24,\)'):
        merge_scans(y, weights, z, norm=[norm[0], norm[1][1:]])
    with pytest.raises(ValueError, match='pass z with it'):
        merge_scans(y, weights, norm=norm)
