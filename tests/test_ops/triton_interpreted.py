"""Tests of the Triton kernels in Triton's interpreter, which must be chosen before Triton is imported.

``test_triton.py`` runs them in a process of its own, with TRITON_INTERPRET=1. The interpreter takes some 50 ms per
token, direction and block of channels: problems are small, and each shows several things at once.
"""

from collections.abc import Iterator

import pytest
import torch

from mmlocalmamba.ops import ScanInputs, local_selective_scan
from mmlocalmamba.ops.backends import triton
from mmlocalmamba.ops.backends.triton import ScanSettings, default_settings, set_rule

from .problems import Problem, assert_agrees, in_factors, make_problem, map_tensors, run, tensors_of, truth
from .test_extreme_numbers import assert_same, spoiled

SMALL = {'forward_channels': 4, 'backward_channels': 4, 'tile': 4}


def settings(segments: int = 1, **changed: int) -> None:
    set_rule(lambda inputs: ScanSettings(**{**SMALL, 'segments': segments, 'segments_backward': segments, **changed}))


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch) -> Iterator[None]:
    """Make a few tokens fill several tiles and chunks, and a few channels several blocks."""
    monkeypatch.setattr(triton, 'CHUNK', 8)
    settings()
    yield
    set_rule(None)


def with_order(problem: Problem, changes: dict[tuple[int, int], int]) -> Problem:
    order = problem.inputs.order.clone()
    for place, value in changes.items():
        order[place] = value
    return problem._replace(inputs=problem.inputs._replace(order=order))


def test_padded_and_flipped_orders_of_several_blocks_and_chunks() -> None:
    assert_agrees(triton, make_problem(3, 3, ('h', 'w2_flip'), d_state=2), 1e-12)


def test_factors() -> None:
    assert_agrees(triton, in_factors(make_problem(3, 3, ('v', 'w2'), channels=5, d_state=3), rank=3), 1e-12)


@pytest.mark.parametrize('factors', [False, True])
def test_scan_order_form_with_strided_tokens(factors) -> None:
    problem = make_problem(1, 3, ('v_flip', 'w2'), channels=3, d_state=2, spatial=False, strided=True)

    assert_agrees(triton, in_factors(problem) if factors else problem, 1e-12)


def test_strided_spatial_tokens_of_several_images() -> None:
    assert_agrees(triton, in_factors(make_problem(2, 2, ('h',), batch=2, channels=4, strided=True)), 1e-12)


@pytest.mark.parametrize('direction', ['h', 'w3_flip'])
def test_one_token_and_one_state(direction) -> None:
    assert_agrees(triton, make_problem(1, 1, (direction,), channels=3, d_state=1), 1e-12)


@pytest.mark.parametrize('factors', [False, True])
def test_segments_are_carried_on(factors) -> None:
    """18 steps are three chunks of 8, in three segments forwards and two backwards."""
    settings(3, segments_backward=2)
    problem = make_problem(3, 6, ('w3_flip',), channels=3, d_state=2)

    assert_agrees(triton, in_factors(problem) if factors else problem, 1e-12)
    settings(3)
    assert_agrees(triton, problem, 1e-12)


def test_fewer_programs_than_pieces_of_work() -> None:
    settings(2, forward_programs=1, backward_programs=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton, 'multiprocessors', lambda device: 3)
        assert_agrees(triton, make_problem(2, 5, ('h',), batch=2, channels=6, d_state=2), 1e-12)


@pytest.mark.parametrize(
    ('dtype', 'd_state', 'tolerance'),
    [(torch.float32, 8, 1e-5), (torch.bfloat16, 16, 1e-2), (torch.float16, 32, 2e-3)],
)
def test_dtypes_and_states(dtype, d_state, tolerance) -> None:
    problem = make_problem(2, 3, ('h_flip',), channels=4, d_state=d_state, dtype=dtype)

    assert_agrees(triton, problem, tolerance)
    low = in_factors(problem)
    # The kernels round the projection to the tokens' dtype, as autocast does.
    low = low._replace(inputs=low.inputs._replace(dt_weight=low.inputs.dt_weight.to(dtype).to(torch.float32)))
    assert_agrees(triton, low, tolerance)


def test_sizes_of_a_gpu(monkeypatch) -> None:
    """Tiles, chunks and blocks as they are by default, none of them full."""
    monkeypatch.setattr(triton, 'CHUNK', 64)
    set_rule(None)

    assert_agrees(triton, in_factors(make_problem(5, 14, ('v',), channels=9, d_state=16, dtype=torch.float32)), 1e-5)


def test_large_and_tiny_steps() -> None:
    problem = make_problem(2, 4, ('h',), channels=4, d_state=2, dtype=torch.float32)
    for row, step in enumerate((10.0, -12.0, 100.0, -100.0, 0.0, 88.0)):
        problem.inputs.dt[:, row] = step

    assert_agrees(triton, problem, 1e-5)


@pytest.mark.parametrize('factors', [False, True])
@pytest.mark.parametrize(
    'case', ['dt of inf', 'dt of -inf', 'dt of nan', 'u of inf', 'B of 1e30', 'bias of -10000', 'rates']
)
def test_extreme_numbers(case, factors) -> None:
    # Channels and states fill no block, so that lanes past the last one are there to spoil sums.
    problem = make_problem(2, 3, ('h', 'w2_flip'), channels=5, d_state=3, dtype=torch.float32)
    problem = spoiled(in_factors(problem, 2) if factors else problem, case)

    assert_same(run(triton, problem), truth(problem), 4e-6)


def test_empty_batch_and_empty_map() -> None:
    assert_agrees(triton, in_factors(make_problem(3, 4, batch=0)), 0)
    assert_agrees(triton, make_problem(3, 4, batch=0), 0)


@pytest.mark.parametrize('spatial', [True, False])
def test_order_out_of_range_touches_nothing(spatial) -> None:
    """Tokens that there are not count as padding, and tokens that are left out get zeros."""
    problem = make_problem(2, 3, ('h',), channels=4, d_state=2, spatial=spatial)
    tame, wild = (
        with_order(problem, {(0, 1): missing, (0, 4): -1, (0, 5): other})
        for missing, other in ((-1, -1), (12 * 10**6, -(10**6)))
    )

    assert_agrees(triton, tame, 1e-12)
    for name, got in run(triton, wild).items():
        assert torch.equal(got, run(triton, tame)[name]), name
    assert (run(triton, wild)['y'][:, 0, 1] == 0).all()


def test_through_the_operation() -> None:
    problem = in_factors(make_problem(2, 2, ('h',), channels=3, d_state=2))
    inputs = map_tensors(problem.inputs, lambda x: x.requires_grad_())
    outputs = [local_selective_scan(inputs, backend=name) for name in ('triton', 'reference')]

    torch.testing.assert_close(*outputs)
    for got, want in zip(*(torch.autograd.grad(y, tensors_of(inputs), problem.grad) for y in outputs), strict=True):
        torch.testing.assert_close(got, want)


def test_autocast_scans_in_half_precision() -> None:
    inputs = make_problem(1, 3, ('h',), channels=3, d_state=2, dtype=torch.float32).inputs
    with torch.autocast('cpu', dtype=torch.bfloat16):
        y = local_selective_scan(inputs, backend='triton')

    assert y.dtype == torch.bfloat16
    want = local_selective_scan(inputs, backend='reference')
    torch.testing.assert_close(y.float(), want, rtol=2e-2, atol=2e-2 * want.abs().max().item())


def test_default_settings_depend_on_sizes_alone() -> None:
    inputs: ScanInputs = make_problem(2, 3).inputs

    assert default_settings(inputs) == default_settings(inputs)
