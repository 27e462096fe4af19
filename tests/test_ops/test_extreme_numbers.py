"""Huge, tiny and non-finite numbers: equal to double precision where that is finite, not finite where it is not."""

import pytest
import torch

from error_over_length import errors
from mmlocalmamba.ops import local_selective_scan
from mmlocalmamba.ops.backends import chunked, cpu, reference

from .fused_problems import causal_conv, depthwise_conv, merge, outcome
from .problems import in_factors, make_problem, run, truth

BUILT = cpu.why_not('cpu') is None
INSTRUCTION_SETS = cpu.library().instruction_sets() if BUILT else []
BACKENDS = [*INSTRUCTION_SETS, 'chunked', 'reference']
TOLERANCES = {torch.float64: 1e-12, torch.float32: 4e-6, torch.bfloat16: 1.2e-2, torch.float16: 2e-3}

BIASES = {f'bias of {x:g}': x for x in (50.0, -50.0, 1e4, -1e4)}
VALUES = ['1e30', '-1e30', 'inf', '-inf', 'nan', '1e-42', '-1e-30']
TOKENS = [f'{name} of {value}' for name in ('u', 'dt', 'B', 'C') for value in VALUES]
RATES = ['rates', 'rates and bias of -50', 'rates and bias of -1e4']
CASES = [*BIASES, *TOKENS, *RATES, 'tiny']


@pytest.fixture(params=BACKENDS)
def backend(request):
    if request.param not in INSTRUCTION_SETS:
        yield {'chunked': chunked, 'reference': reference}[request.param]
        return
    cpu.library().use_instruction_set(request.param)
    yield cpu
    cpu.library().use_instruction_set(INSTRUCTION_SETS[0])


def spoiled(problem, case):
    """Put numbers of a case into a problem."""
    inputs = problem.inputs
    if case in BIASES:
        inputs.dt_bias.add_(BIASES[case])
    elif case in TOKENS:
        name, value = case.split(' of ')
        getattr(inputs, name)[0, 0, ..., 0] = float(value)  # the token that gathering reads for padding, too
    elif case == 'tiny':
        for name in ('u', 'dt', 'B', 'C'):
            getattr(inputs, name).mul_(1e-20 if inputs.u.dtype != torch.float16 else 1e-3)
    else:
        bias = float(case.split(' of ')[1]) if ' of ' in case else 0
        inputs.dt_bias.add_(bias)
        logs = torch.linspace(-100, 100, inputs.A.numel()).view_as(inputs.A)
        rates = logs if inputs.log_A else -logs.clamp(-85, 85).exp()
        inputs = inputs._replace(A=rates.to(inputs.A.dtype))
    return problem._replace(inputs=inputs)


def assert_same(got, want, tolerance):
    """Compare tensors by name; what a dtype cannot hold counts as not finite."""
    for name, value in got.items():
        finite = want[name].isfinite() & (want[name].abs() <= torch.finfo(value.dtype).max)
        assert torch.equal(value.isfinite(), finite), f'{name} is not finite in other places'
        if finite.any():
            scale = max(want[name][finite].abs().max().item(), 1.0)
            difference = (value.double() - want[name])[finite].abs().max().item() / scale
            assert difference <= tolerance, f'{name} differs by {difference:.1e} of {scale:.1e}'


@pytest.mark.parametrize('factors', [False, True])
@pytest.mark.parametrize('dtype', list(TOLERANCES))
@pytest.mark.parametrize('case', CASES)
def test_scan(case, dtype, factors, backend) -> None:
    if factors and not backend.TAKES_FACTORS:
        pytest.skip('takes no factors')
    if dtype == torch.float16 and ('1e30' in case or '1e-' in case):
        pytest.skip('no number of float16')
    problem = make_problem(3, 4, ('h', 'w2_flip'), channels=17, d_state=17, dtype=dtype)
    problem = spoiled(in_factors(problem, 3) if factors else problem, case)

    assert_same(run(backend, problem), truth(problem), TOLERANCES[dtype])


@pytest.mark.parametrize('case', [*BIASES, *RATES, 'u of inf', 'dt of nan', 'dt of 1e30', 'B of -1e30'])
def test_scan_inside_autocast(case, backend) -> None:
    """Tokens go to bfloat16; numbers that it holds exactly make it comparable."""
    problem = in_factors(make_problem(3, 4, ('h', 'w2_flip'), channels=17, d_state=17, dtype=torch.bfloat16), 3)
    inputs = spoiled(problem, case).inputs
    wide = inputs._replace(**{name: getattr(inputs, name).float() for name in ('u', 'dt', 'B', 'C')})
    with torch.autocast('cpu', torch.bfloat16):
        y = local_selective_scan(wide, backend.__name__.rpartition('.')[2])

    assert y.dtype == torch.bfloat16
    # Without factors, step sizes of every channel are rounded to bfloat16.
    assert_same({'y': y}, truth(problem._replace(inputs=inputs)), 1.2e-2 if backend.TAKES_FACTORS else 6e-2)


FUSED = {
    'causal_conv': (lambda dtype: causal_conv(channels=17, dtype=dtype), 'x'),
    'depthwise_conv': (lambda dtype: depthwise_conv(channels=17, dtype=dtype), 'x'),
    'gate_and_merge': (lambda dtype: merge('gate_and_merge', channels=17, dtype=dtype), 'z'),
    'merge_and_normalise': (lambda dtype: merge('merge_and_normalise', channels=17, dtype=dtype), 'z'),
}


@pytest.mark.skipif(not BUILT, reason='the C++ library is not built')
@pytest.mark.parametrize('value', ['1e4', '1e30', '-1e4', '-1e30', '1e-42', 'inf', '-inf', 'nan'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize('operation', FUSED)
@pytest.mark.parametrize('backend', INSTRUCTION_SETS, indirect=True)
def test_what_goes_through_silu(operation, dtype, value, backend) -> None:
    if operation == 'gate_and_merge' and '1e30' in value and dtype != torch.float64:
        pytest.skip('the square of what LayerNorm takes here is no float32')
    make, name = FUSED[operation]
    problem = make(dtype)
    problem.tensors[name][0, 1, ..., 3] = float(value)
    want = outcome(problem, problem.naive, torch.float64)

    assert_same(outcome(problem, problem.fused), want, TOLERANCES[dtype] * 10)


@pytest.mark.skipif(not BUILT, reason='the C++ library is not built')
@pytest.mark.parametrize('backend', INSTRUCTION_SETS, indirect=True)
def test_transcendental_functions(backend) -> None:
    huge = [10.0**k for k in (2, 4, 8, 20, 27, 28, 30, 38)]
    x = torch.tensor([0.0, 1e-42, 80, 88, 89, *huge, float('inf'), float('nan')])
    x = torch.cat([x, -x])
    value, slope, power = torch.empty_like(x), torch.empty_like(x), torch.empty_like(x)
    cpu.library().softplus(x=x, y=value, slope=slope)
    cpu.library().exp2(x=-x.abs(), y=power)

    wide = x.double()
    for got, want in (
        (value, torch.nn.functional.softplus(wide)),
        (slope, torch.sigmoid(wide)),
        (power, torch.exp2(-wide.abs())),
    ):
        torch.testing.assert_close(got, want.float(), rtol=1e-5, atol=2.0**-126, equal_nan=True)


@pytest.mark.skipif(not BUILT, reason='the C++ library is not built')
@pytest.mark.parametrize('backend', INSTRUCTION_SETS, indirect=True)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_errors_do_not_grow_with_the_sequence(dtype, backend, request) -> None:
    """A short form of tools/reliability/plot_error_over_length.py."""
    found = [errors(length, dtype, request.node.callspec.params['backend']) for length in (64, 2**13)]

    for error in found:
        assert error.output <= 2 * torch.finfo(dtype).eps + 2e-6
        assert error.gradient <= 2 * torch.finfo(dtype).eps + 2e-5
