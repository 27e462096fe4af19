import pytest
import torch

from mmlocalmamba.ops import local_selective_scan
from mmlocalmamba.ops.backends import cpu
from mmlocalmamba.ops.selective_scan import multiply_out

from .problems import assert_agrees, in_factors, make_problem, map_tensors, run, tensors_of, truth

pytestmark = pytest.mark.skipif(cpu.why_not('cpu') is not None, reason='the C++ library is not built')

SIZES = [(1, 1), (1, 9), (9, 1), (3, 5), (5, 2), (13, 11), (16, 17)]
DIRECTIONS = ('h', 'v_flip', 'w2', 'w7_flip', 'w20')
INSTRUCTION_SETS = cpu.library().instruction_sets() if cpu.why_not('cpu') is None else []
TOLERANCES = {torch.float64: 1e-12, torch.float32: 3e-6, torch.bfloat16: 1e-2, torch.float16: 1.5e-3}


@pytest.fixture(params=INSTRUCTION_SETS, autouse=True)
def instruction_set(request):
    """Run a test with every instruction set that this processor has."""
    cpu.library().use_instruction_set(request.param)
    yield request.param
    cpu.library().use_instruction_set(INSTRUCTION_SETS[0])


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
def test_factors_agree_with_reference(size, rank, dtype, spatial) -> None:
    problem = make_problem(*size, DIRECTIONS, batch=2, channels=37, d_state=16, dtype=dtype, spatial=spatial)
    problem = in_factors(problem, rank)
    problem.inputs.dt_weight.mul_(rank**-0.5)
    doubled = torch.cat([problem.inputs.dt, problem.inputs.dt], -1)[..., rank:]  # a view of a larger tensor

    assert_agrees(cpu, problem._replace(inputs=problem.inputs._replace(dt=doubled)), TOLERANCES[dtype])


@pytest.mark.parametrize('spatial', [True, False])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_strided_tokens(dtype, spatial) -> None:
    problem = make_problem(5, 7, channels=18, d_state=7, dtype=dtype, spatial=spatial, strided=True)

    assert_agrees(cpu, problem, TOLERANCES[dtype])


def test_expanded_gradient() -> None:
    problem = make_problem(5, 7, channels=18, dtype=torch.float32)

    assert_agrees(cpu, problem._replace(grad=torch.ones(()).expand_as(problem.grad)), TOLERANCES[torch.float32])


@pytest.mark.parametrize('scale', [1e-3, 1, 30, 1e3])
def test_steps_of_any_size(scale) -> None:
    problem = make_problem(6, 6, channels=17, dtype=torch.float32)
    problem.inputs.dt.mul_(scale)

    assert_agrees(cpu, problem, 2e-5)


def test_states_that_decay_to_nothing_are_zero_not_subnormal() -> None:
    inputs = make_problem(40, 40, ('h',), channels=16, dtype=torch.float32).inputs
    inputs.u[:, 1:] = 0  # nothing but the first token, which is forgotten within a few steps
    y, _ = cpu.forward(inputs._replace(A=10 * inputs.A), False)

    assert y[0, 0, 0].abs().max() > 0
    assert (y[0, 0, -1] == 0).all()


def test_not_a_number_spreads_only_along_its_channel() -> None:
    inputs = make_problem(4, 5, ('h',), channels=18, dtype=torch.float32).inputs
    inputs.dt[0, 7, 0, 3] = float('nan')
    y, _ = cpu.forward(inputs, False)

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
        for name, value in result.items():
            assert torch.equal(value, results[0][name]), name


@pytest.mark.parametrize('factors', [False, True])
def test_results_do_not_depend_on_how_blocks_are_grouped(factors) -> None:
    problem = make_problem(9, 8, ('h', 'w2'), channels=150, d_state=16, dtype=torch.float32)
    problem = in_factors(problem, 3) if factors else problem
    results = []
    for threads in (1, 2, 8):  # each takes other groups of blocks along a sequence
        torch.set_num_threads(threads)
        results.append(cpu.forward(problem.inputs, True))
    torch.set_num_threads(1)

    for y, states in results[1:]:
        assert torch.equal(y, results[0][0])
        assert torch.equal(states, results[0][1])


@pytest.mark.parametrize('name', ['u', 'dt', 'A', 'B', 'C', 'D', 'dt_bias'])
def test_gradient_of_each_input_alone(name) -> None:
    problem = make_problem(4, 5, channels=18, dtype=torch.float32)
    leaf = getattr(problem.inputs, name).requires_grad_()
    (got,) = torch.autograd.grad(local_selective_scan(problem.inputs, backend='cpu'), [leaf], problem.grad)

    torch.testing.assert_close(got, truth(problem)[f'd_{name}'].float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
@pytest.mark.parametrize('spatial', [True, False])
@pytest.mark.parametrize('backend', ['cpu', 'chunked'])
def test_factors_are_what_they_stand_for(backend, spatial, dtype) -> None:
    problem = make_problem(4, 5, channels=18, d_state=17, dtype=dtype, batch=2, spatial=spatial)
    inputs = map_tensors(in_factors(problem, 5).inputs, lambda x: x.requires_grad_())
    got, want = (local_selective_scan(x, backend) for x in (inputs, multiply_out(inputs)))

    torch.testing.assert_close(got, want)
    grads = (torch.autograd.grad(y, tensors_of(inputs), problem.grad) for y in (got, want))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def exp2(x: torch.Tensor) -> torch.Tensor:
    y = torch.empty_like(x)
    cpu.library().exp2(x=x, y=y)
    return y


def test_exponential_has_the_stated_error(instruction_set) -> None:
    x = -torch.cat([torch.linspace(0, 126, 400_001), torch.logspace(-30, 2, 10_001)])
    want = torch.exp2(x.double())
    error = ((exp2(x).double() - want) / want).abs().max()

    # The baseline without vector types takes the C library's, exact to its last place.
    assert error < 2e-7
    special = exp2(torch.tensor([0.0, -1.0, -1000.0, float('-inf'), float('nan')]))
    assert special[:2].tolist() == [1.0, 0.5]
    assert (special[2:4] <= 2**-126).all()
    assert special[4].isnan()


def test_softplus_has_the_stated_error() -> None:
    x = torch.cat([torch.linspace(-80, 80, 400_001), torch.logspace(-20, 1, 1001), -torch.logspace(-20, 1, 1001)])
    value, slope = torch.empty_like(x), torch.empty_like(x)
    cpu.library().softplus(x=x, y=value, slope=slope)
    wide = x.double()
    want = wide.clamp(min=0) + torch.log1p(torch.exp(-wide.abs()))

    allowed = 6e-7 + 8e-8 * wide.abs()
    assert (((value.double() - want) / want).abs() < allowed).all()
    assert (((slope.double() - torch.sigmoid(wide)) / torch.sigmoid(wide)).abs() < allowed).all()


def test_chunk_is_that_of_the_library() -> None:
    assert cpu.library().chunk == cpu.CHUNK
