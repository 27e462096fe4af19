"""Orders that leave tokens out: nothing of what is put out for these is left to chance."""

import pytest
import torch

from mmlocalmamba.ops import available_backends, local_causal_conv1d
from mmlocalmamba.ops.backends import cpu, load_backend

from .problems import in_factors, make_problem, run

BACKENDS = [name for name in ('cpu', 'chunked', 'reference') if available_backends('cpu')[name] is None]
INSTRUCTION_SETS = cpu.library().instruction_sets() if 'cpu' in BACKENDS else []
LEFT_OUT = [0, 5, 11]


@pytest.fixture(params=[*INSTRUCTION_SETS, *BACKENDS[-2:]])
def backend(request):
    if request.param not in INSTRUCTION_SETS:
        yield load_backend(request.param)
        return
    cpu.library().use_instruction_set(request.param)
    yield cpu
    cpu.library().use_instruction_set(INSTRUCTION_SETS[0])


def partial(problem):
    order = problem.inputs.order.clone()
    for token in LEFT_OUT:
        order[order == token] = -1
    return problem._replace(inputs=problem.inputs._replace(order=order))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('factors', [False, True])
def test_outputs_and_gradients_of_tokens_left_out_are_zero(backend, factors, dtype) -> None:
    if factors and not backend.TAKES_FACTORS:
        pytest.skip('takes no factors')
    problem = make_problem(3, 4, ('h', 'w2_flip'), batch=2, channels=17, dtype=dtype)
    results = run(backend, partial(in_factors(problem) if factors else problem))

    assert (results['y'][:, :, LEFT_OUT] == 0).all()
    for name in ('d_u', 'd_dt', 'd_B', 'd_C'):
        assert (results[name][:, LEFT_OUT] == 0).all(), name
        assert results[name].isfinite().all(), name


@pytest.mark.parametrize('none', [True, False])
def test_an_order_of_padding_alone(backend, none) -> None:
    problem = make_problem(2, 3, ('h', 'v'), channels=5, dtype=torch.float32)
    order = torch.full_like(problem.inputs.order, -1)
    order = order[:, :0] if none else order
    results = run(backend, problem._replace(inputs=problem.inputs._replace(order=order)))

    assert all((value == 0).all() for value in results.values())


def test_tokens_that_the_causal_convolution_leaves_out_have_no_gradient() -> None:
    order = torch.tensor([[1, -1, 3, 4], [4, 3, -1, 1]], dtype=torch.int32)
    x = torch.randn(2, 5, 7, requires_grad=True)
    local_causal_conv1d(x, torch.randn(2, 7, 4), torch.randn(2, 7), order).square().sum().backward()

    assert (x.grad[:, [0, 2]] == 0).all()
    assert (x.grad[:, [1, 3, 4]] != 0).all()
