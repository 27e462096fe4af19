import logging
import math
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmlocalmamba.ops import available_backends, backend_for, backends, local_selective_scan
from mmlocalmamba.ops.backends import chunked
from mmlocalmamba.ops.backends.self_check import self_check

from .problems import assert_agrees, make_problem, map_tensors, tensors_of

BACKENDS_HERE = [name for name, reason in available_backends('cpu').items() if reason is None]


@pytest.fixture(autouse=True)
def fresh_choice(monkeypatch, caplog):
    monkeypatch.delenv(backends.ENVIRONMENT_VARIABLE, raising=False)
    backends._choose.cache_clear()
    backends._choose_fused.cache_clear()
    caplog.set_level(logging.INFO, 'mmlocalmamba')
    yield
    backends._choose.cache_clear()
    backends._choose_fused.cache_clear()


@pytest.fixture
def caplog(caplog, monkeypatch):
    """Catch our logger's records whether or not a test before has stopped them from propagating."""
    monkeypatch.setattr(backends.logger, 'propagate', False)
    backends.logger.addHandler(caplog.handler)
    yield caplog
    backends.logger.removeHandler(caplog.handler)


@pytest.fixture
def use_fake(monkeypatch):
    """Put a fake GPU back end into the place of triton, checked on the CPU, the first choice there."""
    real = backends.load_backend

    def install(fake) -> None:
        monkeypatch.setattr(backends, 'load_backend', lambda name: fake if name == 'triton' else real(name))
        monkeypatch.setattr(backends, '_CHECKED_DEVICES', ('cpu',))
        monkeypatch.setitem(backends.AUTO_ORDER, 'cpu', ('triton', 'chunked'))

    return install


def fake(**changed) -> SimpleNamespace:
    names = ('why_not', 'states_shape', 'forward', 'backward', 'TAKES_FACTORS')
    parts = {name: getattr(chunked, name) for name in names}
    return SimpleNamespace(**{**parts, **changed})


def wrong_gradient(*args):
    grads = chunked.backward(*args)
    return grads._replace(A=grads.A * 1.01)


def raising(*_args):
    raise RuntimeError('no kernel image is available')


def nan_output(*args):
    y, states = chunked.forward(*args)
    return y.fill_(float('nan')), states


def test_auto_takes_the_first_that_can_run(monkeypatch) -> None:
    monkeypatch.setitem(backends.AUTO_ORDER, 'cpu', ('triton', 'chunked', 'reference'))

    assert backend_for('cpu') == 'chunked'


def test_slow_choice_is_a_warning_that_names_the_faster_ones(monkeypatch, caplog) -> None:
    monkeypatch.setitem(backends.AUTO_ORDER, 'cpu', ('cuda', 'chunked'))
    backend_for('cpu')

    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert 'SLOW' in record.message
    assert "cuda: mamba-ssm's kernel runs on CUDA devices only." in record.message


def test_choice_is_logged_once(caplog) -> None:
    for _ in range(3):
        backend_for('cpu')

    assert len(caplog.records) == 1


def test_environment_forces(monkeypatch) -> None:
    monkeypatch.setenv(backends.ENVIRONMENT_VARIABLE, 'reference')

    assert backend_for('cpu') == 'reference'


def test_argument_goes_before_environment(monkeypatch) -> None:
    monkeypatch.setenv(backends.ENVIRONMENT_VARIABLE, 'reference')

    assert backend_for('cpu', 'chunked') == 'chunked'


def test_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown scan back end 'fast': choose 'auto' or one of 'triton'"):
        backend_for('cpu', 'fast')


def test_forced_back_end_that_cannot_run_raises() -> None:
    inputs = make_problem(2, 2, dtype=torch.float32).inputs

    with pytest.raises(RuntimeError, match=r"'cuda' was asked for, but cannot run on 'cpu'.*CUDA devices only"):
        local_selective_scan(inputs, backend='cuda')


def test_every_back_end_reports() -> None:
    report = available_backends('cpu')

    assert tuple(report) == backends.BACKENDS
    assert report['chunked'] is None
    assert report['triton']


def test_kernel_that_agrees_is_used(use_fake, caplog) -> None:
    use_fake(fake())

    assert backend_for('cpu') == 'triton'
    assert 'agrees with the reference' in caplog.text


@pytest.mark.parametrize(
    ('broken', 'message'),
    [
        (fake(backward=wrong_gradient), 'the gradient of A differs'),
        (fake(forward=raising), 'it raised RuntimeError: no kernel image is available'),
        (fake(forward=nan_output), 'y differs by nan'),
    ],
    ids=['gradient', 'raises', 'nan'],
)
def test_broken_kernel_is_not_used(use_fake, caplog, broken, message) -> None:
    use_fake(broken)

    assert backend_for('cpu') == 'chunked'
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert any('NOT USED' in warning and message in warning for warning in warnings)


def test_no_kernel_is_checked_while_a_cuda_graph_is_captured(use_fake, monkeypatch) -> None:
    use_fake(fake())
    with monkeypatch.context() as capture:
        capture.setattr(torch.cuda, 'is_initialized', lambda: True)
        capture.setattr(torch.cuda, 'is_current_stream_capturing', lambda: True)
        with pytest.raises(RuntimeError, match='run a step before the capture'):
            backend_for('cpu')

    assert backend_for('cpu') == 'triton'


def test_broken_kernel_raises_if_forced(use_fake) -> None:
    use_fake(fake(backward=wrong_gradient))

    with pytest.raises(RuntimeError, match='does not agree with the reference here: the gradient of A differs'):
        backend_for('cpu', 'triton')


def test_check_sees_nothing_of_the_callers_modes(use_fake) -> None:
    use_fake(fake())
    with torch.inference_mode(), torch.autocast('cpu', dtype=torch.bfloat16):
        assert backend_for('cpu') == 'triton'


@pytest.mark.parametrize('backend', BACKENDS_HERE)
def test_check_passes_what_is_right(backend) -> None:
    assert self_check(backends.load_backend(backend), torch.device('cpu')) is None


class Dtypes(TorchDispatchMode):
    """Note the shapes of what is computed in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.full: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dtype == torch.float32:
            self.full.add(tuple(result.shape))
        return result


@pytest.mark.parametrize('backend', BACKENDS_HERE)
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('tokens', [torch.float32, torch.bfloat16])
def test_autocast_keeps_tokens_in_its_dtype(backend, dtype, tokens) -> None:
    problem = make_problem(4, 5, dtype=tokens)
    inputs = map_tensors(problem.inputs, lambda x: x.requires_grad_())
    with torch.autocast('cpu', dtype=dtype):
        y = local_selective_scan(inputs, backend=backend)
    half = {name: getattr(inputs, name).to(dtype) for name in ('u', 'dt', 'B', 'C')}
    want = local_selective_scan(inputs._replace(**half), backend=backend)

    assert y.dtype == dtype
    assert torch.equal(y, want)
    grad = problem.grad.to(dtype)
    got_grads, want_grads = (torch.autograd.grad(out, tensors_of(inputs), grad) for out in (y, want))
    for got, expected, x in zip(got_grads, want_grads, tensors_of(inputs), strict=True):
        assert got.dtype == x.dtype
        torch.testing.assert_close(got, expected)


def test_autocast_makes_nothing_of_the_scans_size_float32() -> None:
    inputs = make_problem(4, 5, batch=2, channels=16).inputs
    inputs = map_tensors(inputs, lambda x: x.float())
    tokens = {name: getattr(inputs, name).bfloat16() for name in ('u', 'dt', 'B', 'C')}
    with torch.autocast('cpu', dtype=torch.bfloat16), Dtypes() as seen:
        local_selective_scan(inputs._replace(**tokens), backend='chunked')

    assert not [shape for shape in seen.full if math.prod(shape) >= inputs.dt.numel()]


@pytest.mark.parametrize('backend', BACKENDS_HERE)
def test_autocast_leaves_float64_alone(backend) -> None:
    inputs = make_problem(3, 4).inputs
    with torch.autocast('cpu', dtype=torch.bfloat16):
        y = local_selective_scan(inputs, backend=backend)

    assert torch.equal(y, local_selective_scan(inputs, backend=backend))


@pytest.mark.parametrize('backend', BACKENDS_HERE)
def test_autocast_takes_tokens_of_different_types(backend) -> None:
    inputs = make_problem(4, 5, dtype=torch.float32).inputs
    low, weight = torch.randn(*inputs.dt.shape[:-1], 3).bfloat16(), torch.randn(*inputs.D.shape, 3)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        y = local_selective_scan(inputs._replace(dt=low, dt_weight=weight), backend=backend)
    expanded = torch.einsum('blkr,kdr->blkd', low.float(), weight)

    assert y.dtype == torch.bfloat16
    # Tokens, and in some back ends the product, are rounded to bfloat16.
    want = local_selective_scan(inputs._replace(dt=expanded))
    torch.testing.assert_close(y.float(), want, rtol=2e-2, atol=2e-2 * want.abs().max().item())


def test_bfloat16_stays_bfloat16_outside_autocast() -> None:
    assert local_selective_scan(make_problem(3, 4, dtype=torch.bfloat16).inputs).dtype == torch.bfloat16


@pytest.mark.parametrize('spatial', [True, False])
@pytest.mark.parametrize('backend', BACKENDS_HERE)
def test_tokens_that_an_order_leaves_out_are_zero(backend, spatial) -> None:
    problem = make_problem(3, 4, ('h', 'v_flip'), channels=5, spatial=spatial)
    order = problem.inputs.order.clone()
    order[0, 2] = order[1, :3] = -1
    problem = problem._replace(inputs=problem.inputs._replace(order=order))

    assert_agrees(backends.load_backend(backend), problem, 1e-12)
    y, _ = backends.load_backend(backend).forward(problem.inputs, False)
    assert (y[:, 0, 2] == 0).all()


@pytest.mark.parametrize('backend', BACKENDS_HERE)
@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({(0, 0): 12}, r'order.*12'),
        ({(1, 3): -2}, r'order.*-2'),
        ({(0, 0): 2**31 - 1}, r'order.*2147483647'),
        ({(0, 0): 1}, r'order.*(twice|at most once)'),
    ],
)
def test_orders_that_name_no_token_or_one_twice_are_refused(backend, changes, message) -> None:
    inputs = make_problem(3, 4, ('h', 'v'), dtype=torch.float32).inputs
    order = inputs.order.clone()
    for place, value in changes.items():
        order[place] = value

    with pytest.raises(ValueError, match=message):
        local_selective_scan(inputs._replace(order=order), backend=backend)
