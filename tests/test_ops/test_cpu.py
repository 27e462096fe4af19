import subprocess
import sys

import pytest
import torch

from mmlocalmamba.ops import local_selective_scan
from mmlocalmamba.ops.backends import cpu, reference

from .problems import NAMES, Problem, assert_agrees, make_problem, run

pytestmark = pytest.mark.skipif(cpu.why_not('cpu') is not None, reason='the C++ extension is not built')

SIZES = [(1, 1), (1, 9), (9, 1), (3, 5), (5, 2), (13, 11), (16, 17)]
DIRECTIONS = ('h', 'v_flip', 'w2', 'w7_flip', 'w20')
INSTRUCTION_SETS = cpu.extension().instruction_sets() if cpu.why_not('cpu') is None else []
TOLERANCES = {torch.float64: 1e-12, torch.float32: 3e-6, torch.bfloat16: 1e-2, torch.float16: 1.5e-3}


@pytest.fixture(params=INSTRUCTION_SETS, autouse=True)
def instruction_set(request):
    """Run a test with every instruction set that this processor has."""
    cpu.extension().use_instruction_set(request.param)
    yield request.param
    cpu.extension().use_instruction_set(INSTRUCTION_SETS[0])


@pytest.mark.parametrize('spatial', [True, False])
@pytest.mark.parametrize('dtype', list(TOLERANCES))
@pytest.mark.parametrize('size', SIZES)
def test_agrees_with_reference(size, dtype, spatial) -> None:
    problem = make_problem(*size, DIRECTIONS, batch=2, channels=19, d_state=16, dtype=dtype, spatial=spatial)

    assert_agrees(cpu, problem, TOLERANCES[dtype])


@pytest.mark.parametrize('spatial', [True, False])
@pytest.mark.parametrize('d_state', [1, 3, 4, 5, 16, 17, 40])
@pytest.mark.parametrize('channels', [1, 7, 16, 33, 64])
def test_any_number_of_channels_and_states(channels, d_state, spatial) -> None:
    problem = make_problem(6, 7, channels=channels, d_state=d_state, dtype=torch.float32, spatial=spatial)

    assert_agrees(cpu, problem, TOLERANCES[torch.float32])


@pytest.mark.parametrize('spatial', [True, False])
@pytest.mark.parametrize('dtype', list(TOLERANCES))
@pytest.mark.parametrize(('size', 'rank'), [((1, 1), 1), ((1, 9), 3), ((9, 5), 6), ((13, 11), 17), ((5, 2), 48)])
def test_steps_of_low_rank(size, rank, dtype, spatial) -> None:
    problem = make_problem(*size, DIRECTIONS, batch=2, channels=37, d_state=16, dtype=dtype, spatial=spatial)
    (u, dt, *others), order, num_tokens, grad = problem
    low = torch.randn(*dt.shape[:-1], 2 * rank).to(dtype)[..., rank:]
    weight = rank**-0.5 * torch.randn(*others[3].shape, rank, dtype=others[0].dtype)

    y, states = cpu.forward(u, low, *others, order, num_tokens, True, weight)
    *grads, d_weight = cpu.backward(grad, u, low, *others, order, states, num_tokens, weight)

    expanded = torch.einsum('blkr,kdr->blkd', low.double(), weight.double())
    wide = Problem([x.double() for x in (u, expanded, *others)], order, num_tokens, grad.double())
    want = list(run(reference, wide))
    want.append(torch.einsum('blkd,blkr->kdr', want[2], low.double()))
    want[2] = torch.einsum('blkd,kdr->blkr', want[2], weight.double())
    like = (grad, u, low, *others, weight)
    for name, a, b, x in zip((*NAMES, 'd_dt_weight'), (y, *grads, d_weight), want, like, strict=True):
        assert a.dtype == x.dtype, name
        assert a.shape == b.shape, name
        assert (a.double() - b).abs().max() <= TOLERANCES[dtype] * max(b.abs().max().item(), 1.0), name


@pytest.mark.parametrize('spatial', [True, False])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_strided_tokens(dtype, spatial) -> None:
    problem = make_problem(5, 7, channels=18, d_state=7, dtype=dtype, spatial=spatial, strided=True)

    assert_agrees(cpu, problem, TOLERANCES[dtype])


def test_expanded_gradient() -> None:
    inputs, order, num_tokens, grad = make_problem(5, 7, channels=18, dtype=torch.float32)
    problem = Problem(inputs, order, num_tokens, torch.ones(()).expand_as(grad))

    assert_agrees(cpu, problem, TOLERANCES[torch.float32])


@pytest.mark.parametrize('scale', [1e-3, 1, 30, 1e3])
def test_steps_of_any_size(scale) -> None:
    problem = make_problem(6, 6, channels=17, dtype=torch.float32)
    problem.inputs[1].mul_(scale)

    assert_agrees(cpu, problem, 2e-5)


def test_states_that_decay_to_nothing_are_zero_not_subnormal() -> None:
    inputs, order, num_tokens, _ = make_problem(40, 40, ('h',), channels=16, dtype=torch.float32)
    u, dt, A, *others = inputs
    u[:, 1:] = 0  # nothing but the first token, which is forgotten within a few steps
    y, _ = cpu.forward(u, dt, A * 10, *others, order, num_tokens, False)

    assert y[0, 0, 0].abs().max() > 0
    assert (y[0, 0, -1] == 0).all()


def test_not_a_number_spreads_only_along_its_channel() -> None:
    inputs, order, num_tokens, _ = make_problem(4, 5, ('h',), channels=18, dtype=torch.float32)
    inputs[1][0, 7, 0, 3] = float('nan')
    y, _ = cpu.forward(*inputs, order, num_tokens, False)

    bad = y.isnan()[0, 0]
    assert bad[7:, 3].all()
    assert bad.sum() == 13


@pytest.mark.parametrize('spatial', [True, False])
def test_empty_batch(spatial) -> None:
    assert_agrees(cpu, make_problem(3, 4, batch=0, spatial=spatial), 0)


def test_results_do_not_depend_on_thread_count() -> None:
    problem = make_problem(14, 15, DIRECTIONS, batch=2, channels=80, d_state=16, dtype=torch.float32)
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(run(cpu, problem))
    torch.set_num_threads(1)

    for result in results[1:]:
        for one, other in zip(results[0], result, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize('low_rank', [False, True])
def test_results_do_not_depend_on_how_blocks_are_grouped(low_rank) -> None:
    problem = make_problem(9, 8, ('h', 'w2'), channels=150, d_state=16, dtype=torch.float32)
    if low_rank:
        problem.inputs[1] = problem.inputs[1][..., :3].contiguous()
    weight = [torch.randn(2, 150, 3)] if low_rank else []
    results = []
    for threads in (1, 2, 8):  # each takes other groups of blocks along a sequence
        torch.set_num_threads(threads)
        results.append(cpu.forward(*problem.inputs, problem.order, problem.num_tokens, True, *weight))
    torch.set_num_threads(1)

    for y, states in results[1:]:
        assert torch.equal(y, results[0][0])
        assert torch.equal(states, results[0][1])


@pytest.mark.parametrize('name', ['u', 'dt', 'A', 'B', 'C', 'D', 'dt_bias'])
def test_gradient_of_each_input_alone(name) -> None:
    inputs, order, num_tokens, grad = make_problem(4, 5, channels=18, dtype=torch.float32)
    index = ['u', 'dt', 'A', 'B', 'C', 'D', 'dt_bias'].index(name)
    inputs[index].requires_grad_()
    (got,) = torch.autograd.grad(local_selective_scan(*inputs, order, backend='cpu'), [inputs[index]], grad)
    want = reference.backward(grad, *[x.detach() for x in inputs], order, grad.new_empty(0), num_tokens)[index]

    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
@pytest.mark.parametrize('backend', ['cpu', 'chunked'])
def test_logarithm_of_decay_rates(backend, dtype) -> None:
    (u, dt, A, *others), order, num_tokens, grad = make_problem(4, 5, channels=18, d_state=17, dtype=dtype, batch=2)
    logarithm = torch.log(-A).requires_grad_()

    got = local_selective_scan(u, dt, logarithm, *others, order, num_tokens, backend, log_A=True)
    want = local_selective_scan(u, dt, -torch.exp(logarithm), *others, order, num_tokens, backend)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(*(torch.autograd.grad(y, logarithm, grad)[0] for y in (got, want)))


@pytest.mark.parametrize('backend', ['cpu', 'chunked'])
@pytest.mark.parametrize('spatial', [True, False])
def test_steps_of_low_rank_are_those_of_their_product(backend, spatial) -> None:
    (u, dt, *others), order, num_tokens, grad = make_problem(
        4, 5, channels=18, dtype=torch.float32, batch=2, spatial=spatial
    )
    low, weight = torch.randn(*dt.shape[:-1], 5), torch.randn(*others[3].shape, 5)
    leaves = [x.requires_grad_() for x in (u, low, *others, weight)]

    got = local_selective_scan(*leaves[:-1], order, num_tokens, backend, weight)
    want = local_selective_scan(u, torch.einsum('blkr,kdr->blkd', low, weight), *others, order, num_tokens, backend)
    torch.testing.assert_close(got, want)
    for a, b in zip(*(torch.autograd.grad(y, leaves, grad) for y in (got, want)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_second_derivative_is_refused() -> None:
    inputs, order, _, _ = make_problem(3, 4, dtype=torch.float32)
    inputs = [x.requires_grad_() for x in inputs]
    y = local_selective_scan(*inputs, order, backend='cpu')
    grads = torch.autograd.grad(y.square().sum(), inputs, create_graph=True)

    with pytest.raises(RuntimeError, match='has no second derivative'):
        grads[0].sum().backward()


def test_order_out_of_range_is_refused() -> None:
    inputs, order, num_tokens, _ = make_problem(3, 4, dtype=torch.float32)
    order = order.clone()
    order[0, 0] = num_tokens

    with pytest.raises(RuntimeError, match='order holds 12, but there are only 12 tokens'):
        cpu.forward(*inputs, order, num_tokens, False)


def test_exponential_has_the_stated_error(instruction_set) -> None:
    x = -torch.cat([torch.linspace(0, 126, 400_001), torch.logspace(-30, 2, 10_001)])
    want = torch.exp2(x.double())
    error = ((cpu.extension().exp2(x).double() - want) / want).abs().max()

    # The baseline without vector types takes the C library's, exact to its last place.
    assert error < 2e-7
    special = cpu.extension().exp2(torch.tensor([0.0, -1.0, -1000.0, float('-inf'), float('nan')]))
    assert special[:2].tolist() == [1.0, 0.5]
    assert (special[2:4] <= 2**-126).all()
    assert special[4].isnan()


def test_softplus_has_the_stated_error() -> None:
    x = torch.cat([torch.linspace(-80, 80, 400_001), torch.logspace(-20, 1, 1001), -torch.logspace(-20, 1, 1001)])
    value, slope = cpu.extension().softplus(x)
    wide = x.double()
    want = wide.clamp(min=0) + torch.log1p(torch.exp(-wide.abs()))

    allowed = 6e-7 + 8e-8 * wide.abs()
    assert (((value.double() - want) / want).abs() < allowed).all()
    assert (((slope.double() - torch.sigmoid(wide)) / torch.sigmoid(wide)).abs() < allowed).all()


def test_missing_extension_says_how_to_build_it() -> None:
    script = (
        'import sys; sys.modules["mmlocalmamba._C"] = None\n'
        'from mmlocalmamba.ops import available_backends, backend_for\n'
        'print(available_backends("cpu")["cpu"]); print(backend_for("cpu"))'
    )
    result = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)

    assert 'is not built: install a C++ compiler' in result.stdout
    assert result.stdout.splitlines()[-1] == 'chunked'
    assert 'the SLOW pure-PyTorch back end' in result.stderr


def test_chunk_is_that_of_the_extension() -> None:
    assert cpu.CHUNK == cpu.extension().CHUNK
