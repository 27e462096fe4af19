"""Both ways of merging scans: kernels against the naive functions, in float64, with every gradient."""

import pytest
import torch
import torch.nn.functional as F

from mmlocalmamba.ops import ChannelGate, OutputNorm, gate_and_merge, merge_and_normalise
from mmlocalmamba.ops.backends import cpu
from mmlocalmamba.ops.channel_gate import mean_of_norm
from mmlocalmamba.ops.gate_and_merge import _gate_and_merge, gate_and_merge_naive
from mmlocalmamba.ops.merge_and_normalise import _merge_and_normalise, merge_and_normalise_naive

EPS = 1e-5
WEIGHTS = ChannelGate._fields[:-1]
NAMES = {
    'gate_and_merge': ('y', 'z', *WEIGHTS),
    'merge_and_normalise': ('y', 'z', *WEIGHTS, 'out_norm_weight', 'out_norm_bias'),
}
OPERATIONS = pytest.mark.parametrize('operation', list(NAMES))
needs_library = pytest.mark.skipif(cpu.why_not('cpu') is not None, reason='the C++ library is not built')
INSTRUCTION_SETS = cpu.library().instruction_sets() if cpu.why_not('cpu') is None else []


@pytest.fixture(params=INSTRUCTION_SETS)
def instruction_set(request):
    cpu.library().use_instruction_set(request.param)
    yield request.param
    cpu.library().use_instruction_set(INSTRUCTION_SETS[0])


def draw(tokens=37, channels=24, dtype=torch.float64, batch=2, directions=3, hidden=4):
    """Give y, z (half of a wider tensor, as in the mixers), the gate's six weights, and two of a norm of the sum."""
    full = torch.promote_types(dtype, torch.float32)
    shapes = [(channels,), (channels,), (hidden, channels), (hidden,), (channels, hidden)] + 3 * [(channels,)]
    y = (2 * torch.randn(batch, directions, tokens, channels, dtype=full) + 1).to(dtype)
    z = torch.randn(batch, tokens, 2 * channels, dtype=full).to(dtype)[..., channels:]
    return [y, z, *(torch.randn(shape, dtype=full) for shape in shapes)]


def naive(operation, tensors):
    y, z, *weights = tensors
    gate = ChannelGate(*weights[:6], EPS)
    if operation == 'gate_and_merge':
        return gate_and_merge_naive(y, z, gate)
    return merge_and_normalise_naive(y, z, gate, OutputNorm(*weights[6:], EPS))


def kernel(operation, tensors):
    if operation == 'gate_and_merge':
        return _gate_and_merge(*tensors[:8], EPS)[0]
    return _merge_and_normalise(*tensors[:8], EPS, *tensors[8:], EPS)[0]


def results(function, operation, tensors, dtype=None):
    """Run forward and backward: the output, and the gradients by name."""
    names = NAMES[operation]
    leaves = [x.detach().to(dtype or x.dtype).requires_grad_() for x in tensors[: len(names)]]
    out = function(operation, leaves)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(out.dtype)
    grads = torch.autograd.grad(out, leaves, grad)
    return {'out': out.detach(), **{f'd_{name}': value for name, value in zip(names, grads, strict=True)}}


def assert_agrees(operation, tensors, tolerance) -> None:
    got = results(kernel, operation, tensors)
    want = results(naive, operation, tensors, torch.float64)
    like = {'out': tensors[0], **{f'd_{name}': x for name, x in zip(NAMES[operation], tensors, strict=False)}}
    for name, value in got.items():
        assert value.dtype == like[name].dtype, name
        assert value.shape == want[name].shape, name
        scale = max(want[name].abs().max().item(), 1.0)
        assert (value.double() - want[name]).abs().max() <= tolerance * scale, name


def test_naive_gate_and_merge_follows_the_formula() -> None:
    y, z, norm_weight, norm_bias, *layers = draw()[:8]
    x = y * F.silu(z)[:, None]
    n = F.layer_norm(x, x.shape[-1:], norm_weight, norm_bias, EPS).mean(2, keepdim=True)
    gate = torch.sigmoid(F.linear(F.gelu(F.linear(n, *layers[:2])), *layers[2:]))

    torch.testing.assert_close(naive('gate_and_merge', [y, z, norm_weight, norm_bias, *layers]), (x * gate).sum(1))


def test_naive_merge_and_normalise_follows_the_formula() -> None:
    tensors = draw()
    y, z, norm_weight, norm_bias, *layers = tensors[:8]
    n = F.layer_norm(y, y.shape[-1:], norm_weight, norm_bias, EPS).mean(2, keepdim=True)
    gate = torch.sigmoid(F.linear(F.gelu(F.linear(n, *layers[:2])), *layers[2:]))
    want = F.layer_norm((y * gate).sum(1), y.shape[-1:], *tensors[8:], EPS) * F.silu(z)

    torch.testing.assert_close(naive('merge_and_normalise', tensors), want)


@pytest.mark.usefixtures('instruction_set')
@OPERATIONS
@pytest.mark.parametrize(
    ('dtype', 'tolerance'),
    [(torch.float64, 1e-12), (torch.float32, 3e-6), (torch.bfloat16, 1e-2), (torch.float16, 1.5e-3)],
)
def test_kernel_agrees_with_naive(dtype, tolerance, operation) -> None:
    assert_agrees(operation, draw(dtype=dtype), tolerance)


@pytest.mark.usefixtures('instruction_set')
@OPERATIONS
@pytest.mark.parametrize('tokens', [1, 8, 31, 65, 300])
@pytest.mark.parametrize('channels', [2, 16, 33])
def test_kernel_takes_any_size(channels, tokens, operation) -> None:
    assert_agrees(operation, draw(tokens, channels), 1e-10)


@needs_library
@OPERATIONS
def test_kernel_takes_strided_scans(operation) -> None:
    y, *others = draw()
    y = y.transpose(1, 2).contiguous().transpose(1, 2)

    assert_agrees(operation, [y, *others], 1e-12)


@needs_library
def test_large_means_do_not_spoil_the_moments() -> None:
    y, *others = draw(dtype=torch.float32)

    assert_agrees('merge_and_normalise', [y + 1000, *others], 2e-2)


@needs_library
@OPERATIONS
def test_empty_batch(operation) -> None:
    outcome = results(kernel, operation, draw(batch=0))

    assert outcome.pop('out').shape == (0, 37, 24)
    assert not any(grad.any() for grad in outcome.values())


@needs_library
@OPERATIONS
def test_results_do_not_depend_on_thread_count(operation) -> None:
    tensors = draw(tokens=200, channels=80, dtype=torch.float32)
    outcomes = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        outcomes.append(results(kernel, operation, tensors))
    torch.set_num_threads(1)

    for name, value in outcomes[0].items():
        assert torch.equal(value, outcomes[1][name]), name


@needs_library
def test_registration_of_gate_and_merge() -> None:
    y, z, *weights = (x.contiguous().requires_grad_() for x in draw(tokens=5, channels=6, dtype=torch.float32)[:8])
    tests = ('test_schema', 'test_autograd_registration', 'test_faketensor')
    torch.library.opcheck(torch.ops.mmlocalmamba.gate_and_merge.default, (y, z, *weights, EPS), test_utils=tests)
    with torch.no_grad():
        out, mean, gates = _gate_and_merge(y, z, *weights, EPS)
    saved = [x.detach() for x in (torch.ones_like(out), y, z, *weights, mean, gates)]
    backward = torch.ops.mmlocalmamba.gate_and_merge_backward.default
    torch.library.opcheck(backward, (*saved, EPS), test_utils=('test_schema', 'test_faketensor'))


@needs_library
def test_registration_of_merge_and_normalise() -> None:
    tensors = [x.contiguous().requires_grad_() for x in draw(tokens=5, channels=6, dtype=torch.float32)]
    tests = ('test_schema', 'test_autograd_registration', 'test_faketensor')
    arguments = (*tensors[:8], EPS, *tensors[8:], EPS)
    torch.library.opcheck(torch.ops.mmlocalmamba.merge_and_normalise.default, arguments, test_utils=tests)
    with torch.no_grad():
        out, mean, gates = _merge_and_normalise(*arguments)
    saved = [x.detach() for x in (torch.ones_like(out), *tensors, mean, gates)]
    backward = torch.ops.mmlocalmamba.merge_and_normalise_backward.default
    torch.library.opcheck(backward, (*saved, EPS, EPS), test_utils=('test_schema', 'test_faketensor'))


@OPERATIONS
def test_autocast_keeps_the_dtype_of_the_scans(operation) -> None:
    y, z, *weights = draw(dtype=torch.float32)
    gate, norm = ChannelGate(*weights[:6], EPS), OutputNorm(*weights[6:], EPS)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        if operation == 'gate_and_merge':
            out = gate_and_merge(y, z.bfloat16(), gate)
        else:
            out = merge_and_normalise(y, z.bfloat16(), gate, norm)

    assert out.dtype == torch.float32
    torch.testing.assert_close(out, naive(operation, [y, z.bfloat16(), *weights]))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_sum_over_many_tokens_fits_half_precision(dtype) -> None:
    """Of 70,000 tokens with a channel of mean 2.3, the sum is beyond float16, the mean is not."""
    x = torch.randn(1, 70_000, 4) + torch.tensor([2.3, 0.0, 0.0, 0.0])
    want = F.layer_norm(x.to(dtype).double(), (4,), eps=EPS).mean(1, keepdim=True)

    got = mean_of_norm(x.to(dtype), EPS)
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), want, rtol=1e-2, atol=1e-2)


@OPERATIONS
def test_half_precision_of_a_large_image_is_finite(operation) -> None:
    y, z, *weights = draw(tokens=70_000, channels=4, dtype=torch.float16, batch=1, directions=2)
    tensors = [y + torch.tensor([2.3, 0, 0, 0], dtype=torch.float16), z, *(w.half() for w in weights)]
    out = naive(operation, tensors[: len(NAMES[operation])])

    assert out.isfinite().all()


def test_shapes_that_do_not_fit_are_refused() -> None:
    y, z, *weights = draw()
    gate, norm = ChannelGate(*weights[:6], EPS), OutputNorm(*weights[6:], EPS)

    with pytest.raises(ValueError, match=r'select_bias of the channel gate has shape \(23,\).* wants \(24,\)'):
        gate_and_merge(y, z, gate._replace(select_bias=gate.select_bias[1:]))
    with pytest.raises(ValueError, match=r'z has shape \(2, 36, 24\), but y'):
        gate_and_merge(y, z[:, 1:], gate)
    with pytest.raises(ValueError, match=r'bias of the norm has shape \(23,\), but y .* wants \(24,\)'):
        merge_and_normalise(y, z, gate, norm._replace(bias=norm.bias[1:]))
    with pytest.raises(ValueError, match=r'y must be \(Bt, K, L, D\)'):
        merge_and_normalise(y[0], z, gate, norm)


@OPERATIONS
def test_another_device_is_refused(operation) -> None:
    y, z, *weights = draw()
    gate, norm = ChannelGate(*weights[:6], EPS), OutputNorm(*weights[6:], EPS)
    call = gate_and_merge if operation == 'gate_and_merge' else lambda *args: merge_and_normalise(*args, norm)

    with pytest.raises(ValueError, match='z is on meta, but y is on cpu: move it there'):
        call(y, z.to('meta'), gate)
    with pytest.raises(ValueError, match='norm_bias is on meta, but y is on cpu'):
        call(y, z, gate._replace(norm_bias=gate.norm_bias.to('meta')))
