"""What a scan refuses, in the public function and in the registered operations themselves."""

import pytest
import torch

from mmlocalmamba.directions import scan_orders
from mmlocalmamba.ops import ScanInputs, available_backends, local_selective_scan
from mmlocalmamba.ops.selective_scan import _selective_scan

from .problems import in_factors, make_problem

BACKENDS_HERE = [name for name, reason in available_backends('cpu').items() if reason is None]
SCAN = torch.ops.mmlocalmamba.selective_scan.default
BACKWARD = torch.ops.mmlocalmamba.selective_scan_backward.default


def changed(inputs: ScanInputs, name: str, change) -> ScanInputs:
    return inputs._replace(**{name: change(getattr(inputs, name))})


MISFITS = [
    ('u', lambda x: x[..., 1:], 'want'),
    ('dt', lambda x: x[:, 1:], 'dt has shape'),
    ('dt', lambda x: x[..., 1:], 'dt has shape'),
    ('dt', lambda x: x.float(), 'give u, dt, B and C one dtype'),
    ('A', lambda x: x[1:], 'want'),
    ('A', lambda x: x.float(), 'kept in full precision'),
    ('A', lambda x: x[0], 'A must be'),
    ('B', lambda x: x[..., 1:], 'B has shape'),
    ('C', lambda x: x[:, :, 1:], 'C has shape'),
    ('C', lambda x: x.to('meta'), 'C is on meta, but u is on cpu'),
    ('D', lambda x: x[:, 1:], 'D has shape'),
    ('dt_bias', lambda x: x[0], 'dt_bias has shape'),
    ('order', lambda x: x[1:], 'order has shape'),
    ('order', lambda x: x.long(), 'order must be int32'),
    ('order', lambda x: x.to('meta'), 'order is on meta, but u is on cpu'),
    ('order', lambda x: x.unsqueeze(0), 'order .* got'),
    ('num_tokens', lambda x: 64, 'num_tokens is 64'),
    ('num_tokens', lambda x: 512 * 512, 'num_tokens is 262144'),
    ('num_tokens', lambda x: 1, 'num_tokens is 1'),
    ('num_tokens', lambda x: -1, 'num_tokens is -1'),
]


@pytest.mark.parametrize(('name', 'change', 'message'), MISFITS)
@pytest.mark.parametrize('backend', BACKENDS_HERE)
def test_what_does_not_fit_is_refused_by_name(name, change, message, backend) -> None:
    inputs = changed(make_problem(3, 4).inputs, name, change)

    with pytest.raises(ValueError, match=message):
        local_selective_scan(inputs, backend)
    with pytest.raises(ValueError, match=message):
        SCAN(*inputs, True, backend)


@pytest.mark.parametrize('backend', BACKENDS_HERE)
def test_more_tokens_than_there_are_is_no_crash(backend) -> None:
    """The order of a large map on the tokens of a small one once read and wrote foreign memory."""
    inputs = make_problem(1, 4, ('h',), channels=16, dtype=torch.float32).inputs
    wild = inputs._replace(order=scan_orders(['h'], 512, 512), num_tokens=None)

    with pytest.raises(ValueError, match='order holds 262143|names token 262143|order'):
        local_selective_scan(wild, backend)
    with pytest.raises(ValueError, match='num_tokens is 262144'):
        local_selective_scan(wild._replace(num_tokens=512 * 512), backend)


@pytest.mark.parametrize('backend', BACKENDS_HERE)
@pytest.mark.parametrize('factors', [False, True])
def test_backward_without_the_states_of_its_forward_is_refused(backend, factors) -> None:
    problem = make_problem(5, 4, dtype=torch.float32)
    inputs = in_factors(problem).inputs if factors and backend == 'cpu' else problem.inputs
    states = _selective_scan(*inputs, True, backend)[1]
    u, dt, A, B, C, D, dt_bias, order, num_tokens, dt_weight, log_A = inputs
    saved, settings = [u, dt, A, B, C, D, dt_bias, dt_weight, order], (num_tokens, log_A, True, backend)

    BACKWARD(problem.grad, *saved, states, *settings)
    with pytest.raises(ValueError, match=r'states has shape \(3,\)'):
        BACKWARD(problem.grad, *saved, states.new_empty(3), *settings)
    with pytest.raises(ValueError, match='grad_y is'):
        BACKWARD(problem.grad[:, :, 1:], *saved, states, *settings)
    with pytest.raises(ValueError, match='grad_y is'):
        BACKWARD(problem.grad[:, 1:], *saved, states, *settings)


def test_factors_are_refused_by_back_ends_that_take_none() -> None:
    inputs = in_factors(make_problem(2, 3)).inputs

    with pytest.raises(ValueError, match="'chunked' takes neither dt_weight nor log_A"):
        SCAN(*inputs, True, 'chunked')


def test_dt_weight_of_another_rank_is_refused() -> None:
    inputs = in_factors(make_problem(2, 3)).inputs

    with pytest.raises(ValueError, match='dt has shape'):
        local_selective_scan(inputs._replace(dt_weight=inputs.dt_weight[..., :1]))
    with pytest.raises(ValueError, match=r'dt_weight must be \(K, D, R\)'):
        local_selective_scan(inputs._replace(dt_weight=torch.tensor(1.0)))


def test_scan_order_form_needs_the_number_of_tokens() -> None:
    inputs = make_problem(3, 4, spatial=False).inputs._replace(num_tokens=None)

    with pytest.raises(ValueError, match='need num_tokens'):
        local_selective_scan(inputs)
