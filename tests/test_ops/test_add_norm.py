import pytest
import torch
import torch.nn.functional as F

from mmlocalmamba.ops import add_rotate_rms_norm
from mmlocalmamba.ops.add_norm import (
    _add_rotate_rms_norm,
    add_rotate_rms_norm_naive,
    rotate_pairs,
)
from mmlocalmamba.ops.backends import cpu

EPS = 1e-5
NAMES = ('normed', 'new residual', 'd_hidden', 'd_residual', 'd_weight')
INSTRUCTION_SETS = cpu.library().instruction_sets() if cpu.why_not('cpu') is None else []
needs_library = pytest.mark.skipif(not INSTRUCTION_SETS, reason='the C++ library is not built')
either_residual = pytest.mark.parametrize('with_residual', [True, False], ids=['residual', 'first'])
either_rotary = pytest.mark.parametrize('with_rotary', [True, False], ids=['rotary', 'still'])


@pytest.fixture(params=INSTRUCTION_SETS or ['none'])
def instruction_set(request):
    """Run a test with every instruction set that this processor has."""
    cpu.library().use_instruction_set(request.param)
    yield request.param
    cpu.library().use_instruction_set(INSTRUCTION_SETS[0])


def draw(length=5, channels=20, batch=2, dtype=torch.float64, weight_dtype=None):
    """Give hidden, residual and weight; tables; and gradients of normed and of the new residual."""
    full = torch.promote_types(dtype, torch.float32)
    weight_dtype = weight_dtype or full
    hidden, grad = torch.randn(2, batch, length, channels, dtype=full)
    residual, grad_residual = torch.randn(2, batch, length, channels, dtype=full)
    tables = tuple(torch.randn(2, length, channels))  # not even a rotation: nothing may take them for one
    weight = torch.randn(channels).to(weight_dtype)
    return [hidden.to(dtype), residual, weight], tables, (grad.to(weight_dtype), grad_residual)


def grads_of(function, inputs, tables, grads):
    leaves = [None if x is None else x.detach().requires_grad_() for x in inputs]
    outputs = function(*leaves, EPS, tables)
    found = iter(torch.autograd.grad(outputs, [x for x in leaves if x is not None], grads))
    return *(y.detach() for y in outputs), *(None if x is None else next(found) for x in leaves)


def wanted(inputs, tables, grads):
    """Give what PyTorch gives in double precision."""
    doubles = [None if x is None else x.double() for x in inputs]
    tables = tables and tuple(x.double() for x in tables)
    return grads_of(add_rotate_rms_norm_naive, doubles, tables, [x.double() for x in grads])


def check(got, want, rtol, atol):
    for name, a, b in zip(NAMES, got, want, strict=True):
        if b is None:
            assert a is None, name
        else:
            torch.testing.assert_close(
                a.double(), b, rtol=rtol, atol=atol, msg=lambda text, name=name: f'{name}: {text}'
            )


def test_naive_by_the_formula() -> None:
    (hidden, residual, weight), (cos, sin), _ = draw(length=1, channels=2, batch=1)
    a, b = (hidden + residual).flatten()
    want = torch.stack([a * cos[0, 0] - b * sin[0, 0], b * cos[0, 1] + a * sin[0, 1]])
    normed, new = add_rotate_rms_norm_naive(hidden, residual, weight, EPS, (cos, sin))

    torch.testing.assert_close(new.flatten(), want)
    torch.testing.assert_close(normed.flatten(), weight * want / (want.square().mean() + EPS).sqrt())


@needs_library
@pytest.mark.usefixtures('instruction_set')
@either_residual
@either_rotary
@pytest.mark.parametrize('channels', [2, 4, 16, 20, 38])
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, 1e-11), (torch.float32, 2e-5)])
def test_kernel_agrees_with_naive(with_residual, with_rotary, channels, dtype, tolerance) -> None:
    inputs, tables, grads = draw(channels=channels, dtype=dtype)
    inputs[1] = inputs[1] if with_residual else None
    tables = tables if with_rotary else None
    got = grads_of(add_rotate_rms_norm, inputs, tables, grads)

    check(got, wanted(inputs, tables, grads), rtol=tolerance, atol=tolerance)
    assert all(x is None or (x.is_contiguous() and x.dtype == dtype) for x in got)


@needs_library
@pytest.mark.usefixtures('instruction_set')
@pytest.mark.parametrize(('batch', 'length'), [(1, 1), (1, 32), (1, 33), (3, 11), (2, 65)])
def test_chunks_of_tokens(batch, length) -> None:
    inputs, tables, grads = draw(length, batch=batch, channels=12)

    check(grads_of(add_rotate_rms_norm, inputs, tables, grads), wanted(inputs, tables, grads), rtol=1e-9, atol=1e-9)


@needs_library
@pytest.mark.usefixtures('instruction_set')
@pytest.mark.parametrize('channels', [1, 3, 17, 31])
def test_odd_numbers_of_channels_without_rotation(channels) -> None:
    inputs, _, grads = draw(channels=channels)

    check(grads_of(add_rotate_rms_norm, inputs, None, grads), wanted(inputs, None, grads), rtol=1e-9, atol=1e-9)


DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@needs_library
@pytest.mark.usefixtures('instruction_set')
@either_residual
@pytest.mark.parametrize('weight_dtype', DTYPES)
@pytest.mark.parametrize('dtype', DTYPES)
def test_types_are_those_of_naive(dtype, weight_dtype, with_residual) -> None:
    inputs, tables, grads = draw(dtype=dtype, weight_dtype=weight_dtype)
    inputs[1] = inputs[1] if with_residual else None
    got = grads_of(add_rotate_rms_norm, inputs, tables, grads)
    naive = grads_of(add_rotate_rms_norm_naive, inputs, tables, grads)

    assert [x is None or x.dtype for x in got] == [x is None or x.dtype for x in naive]
    check(got, wanted(inputs, tables, grads), rtol=2e-2, atol=2e-2)


@needs_library
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_a_residual_of_doubles_stays_one(dtype) -> None:
    inputs, tables, grads = draw(dtype=dtype)
    inputs[1], grads = inputs[1].double(), [grads[0], grads[1].double()]
    got = grads_of(add_rotate_rms_norm, inputs, tables, grads)

    assert [x.dtype for x in got] == [torch.float32, torch.float64, dtype, torch.float64, torch.float32]
    torch.testing.assert_close(got[1], wanted(inputs, tables, grads)[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16])
def test_autocast_changes_no_type(dtype) -> None:
    inputs, tables, _ = draw(dtype=dtype)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        got = add_rotate_rms_norm(*inputs, EPS, tables)
        naive = add_rotate_rms_norm_naive(*inputs, EPS, tables)

    assert [x.dtype for x in got] == [x.dtype for x in naive] == 2 * [torch.promote_types(dtype, torch.float32)]
    torch.testing.assert_close(got, naive)


def halves(x):
    """Give channels that lie in rows twice as long."""
    return torch.cat([torch.full_like(x, torch.nan), x], -1).chunk(2, -1)[1]


def crop(x):
    """Give tokens that are a part of more."""
    return F.pad(x, (0, 0, 1, 2), value=torch.nan)[:, 1:-2]


def channels_first(x):
    return x.transpose(1, 2).contiguous().transpose(1, 2)


@needs_library
@pytest.mark.parametrize('view', [halves, crop, channels_first])
def test_kernel_takes_views(view) -> None:
    (hidden, residual, weight), (cos, sin), grads = draw()
    got = grads_of(
        add_rotate_rms_norm,
        [view(hidden), view(residual), weight.repeat_interleave(2)[::2]],
        (cos.t().contiguous().t(), sin.t().contiguous().t()),
        [view(grad) for grad in grads],
    )

    check(got, wanted([hidden, residual, weight], (cos, sin), grads), rtol=1e-9, atol=1e-9)


@needs_library
def test_kernel_takes_expanded_gradients() -> None:
    inputs, tables, grads = draw()
    grads = [torch.ones((), dtype=grad.dtype).expand_as(grad) for grad in grads]

    check(grads_of(add_rotate_rms_norm, inputs, tables, grads), wanted(inputs, tables, grads), rtol=1e-9, atol=1e-9)


@needs_library
@pytest.mark.parametrize('size', [dict(batch=0), dict(length=0), dict(channels=0)])
def test_without_any_numbers(size) -> None:
    inputs, tables, grads = draw(**size)
    normed, new, d_hidden, d_residual, d_weight = grads_of(add_rotate_rms_norm, inputs, tables, grads)

    assert normed.shape == new.shape == d_hidden.shape == d_residual.shape == inputs[0].shape
    assert d_weight.shape == inputs[2].shape
    assert not d_weight.any()


@needs_library
def test_results_do_not_depend_on_thread_count() -> None:
    inputs, tables, grads = draw(150, 48, dtype=torch.float32)
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(grads_of(add_rotate_rms_norm, inputs, tables, grads))
    torch.set_num_threads(1)

    for result in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(results[0], result, strict=True))


@needs_library
@pytest.mark.parametrize('index', range(3), ids=['hidden', 'residual', 'weight'])
def test_gradient_of_each_input_alone(index) -> None:
    inputs, tables, grads = draw()
    inputs[index].requires_grad_()
    (got,) = torch.autograd.grad(add_rotate_rms_norm(*inputs, EPS, tables), [inputs[index]], grads)

    torch.testing.assert_close(got, wanted(inputs, tables, grads)[2 + index])


@needs_library
@pytest.mark.parametrize('index', range(2), ids=['normed', 'new residual'])
def test_gradient_through_each_output_alone(index) -> None:
    inputs, tables, grads = draw()
    leaves = [x.requires_grad_() for x in inputs]
    got = torch.autograd.grad(add_rotate_rms_norm(*leaves, EPS, tables)[index], leaves, grads[index])
    only = [grad if i == index else torch.zeros_like(grad) for i, grad in enumerate(grads)]

    for name, a, b in zip(NAMES[2:], got, wanted(inputs, tables, only)[2:], strict=True):
        torch.testing.assert_close(a, b, msg=lambda text, name=name: f'{name}: {text}')


@needs_library
def test_inputs_keep_their_values() -> None:
    inputs, tables, grads = draw()
    before = [x.clone() for x in (*inputs, *tables, *grads)]
    _, new, d_hidden, d_residual, _ = grads_of(add_rotate_rms_norm, inputs, tables, grads)
    for x in (new, d_hidden, d_residual):
        x.zero_()

    assert all(torch.equal(x, y) for x, y in zip(before, (*inputs, *tables, *grads), strict=True))


@needs_library
@either_residual
@either_rotary
def test_registration(with_residual, with_rotary) -> None:
    inputs, tables, grads = draw(dtype=torch.float32)
    inputs[1] = inputs[1] if with_residual else None
    tables = tables if with_rotary else (None, None)
    leaves = [None if x is None else x.clone().requires_grad_() for x in inputs]
    tests = ('test_schema', 'test_autograd_registration', 'test_faketensor')
    operation = torch.ops.mmlocalmamba.add_rotate_rms_norm.default
    torch.library.opcheck(operation, (*leaves, EPS, *tables), test_utils=tests)
    new = _add_rotate_rms_norm(*inputs, EPS, *tables)[1]
    torch.library.opcheck(
        torch.ops.mmlocalmamba.add_rotate_rms_norm_backward.default,
        (*grads, new, inputs[2], *tables, EPS),
        test_utils=('test_schema', 'test_faketensor'),
    )


@needs_library
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('weight_dtype', DTYPES)
def test_fake_tensors_have_the_types_of_real_ones(dtype, weight_dtype) -> None:
    inputs, tables, _ = draw(dtype=dtype, weight_dtype=weight_dtype)
    operation = torch.ops.mmlocalmamba.add_rotate_rms_norm.default
    torch.library.opcheck(operation, (*inputs, EPS, *tables), test_utils=('test_faketensor',))


def test_rotation_keeps_the_type() -> None:
    _, tables, _ = draw()

    assert rotate_pairs(torch.zeros(2, 5, 20, dtype=torch.bfloat16), tables).dtype == torch.bfloat16


def test_what_does_not_fit_is_refused() -> None:
    (hidden, residual, weight), (cos, sin), _ = draw()

    with pytest.raises(ValueError, match=r'hidden must be \(B, L, C\), got \(5, 20\)'):
        add_rotate_rms_norm(hidden[0], None, weight, EPS)
    with pytest.raises(ValueError, match=r'residual \(1, 5, 20\) does not fit: hidden is \(2, 5, 20\)'):
        add_rotate_rms_norm(hidden, residual[:1], weight, EPS)
    with pytest.raises(ValueError, match=r'weight \(19,\) does not fit: .* wants \(20,\)'):
        add_rotate_rms_norm(hidden, residual, weight[1:], EPS)
    with pytest.raises(ValueError, match=r'the sine table \(4, 20\) does not fit: .* wants \(5, 20\)'):
        add_rotate_rms_norm(hidden, residual, weight, EPS, (cos, sin[1:]))
    with pytest.raises(ValueError, match='turn pairs of channels, but hidden .* has 19'):
        add_rotate_rms_norm(hidden[..., 1:], None, weight[1:], EPS, (cos[:, 1:], sin[:, 1:]))
    with pytest.raises(ValueError, match='the cosine table asks for a gradient'):
        add_rotate_rms_norm(hidden, residual, weight, EPS, (cos.clone().requires_grad_(), sin))
