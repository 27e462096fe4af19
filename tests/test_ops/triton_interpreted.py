"""Tests of the Triton kernels in Triton's interpreter, which must be chosen before Triton is imported.

``test_triton.py`` runs each in a process of its own, with TRITON_INTERPRET=1.
"""

import pytest
import torch

from mmlocalmamba.ops import local_selective_scan
from mmlocalmamba.ops.backends import triton

from .problems import assert_agrees, make_problem, map_tensors, run, tensors_of


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch) -> None:
    """Make a few tokens fill several tiles and segments, and a few channels several blocks."""
    monkeypatch.setattr(triton, 'BLOCKS', triton.Blocks(channels=4, tile=4, segment=(8, 16)))


def test_padded_and_flipped_orders() -> None:
    assert_agrees(triton, make_problem(3, 5, ('h', 'w2_flip'), d_state=2), 1e-12)


def test_scan_order_form() -> None:
    assert_agrees(triton, make_problem(3, 3, ('v_flip', 'w2'), d_state=2, spatial=False), 1e-12)


def test_one_token() -> None:
    assert_agrees(triton, make_problem(1, 1, ('h',), channels=3, d_state=1), 1e-12)


def test_one_token_among_padding() -> None:
    assert_agrees(triton, make_problem(1, 1, ('w3_flip',), channels=3), 1e-12)


def test_whole_tiles_and_batch() -> None:
    assert_agrees(triton, make_problem(2, 4, ('v',), channels=4, d_state=4, batch=2), 1e-12)


def test_strided_tokens() -> None:
    assert_agrees(triton, make_problem(2, 3, strided=True, d_state=2), 1e-12)


def test_float32() -> None:
    assert_agrees(triton, make_problem(3, 3, dtype=torch.float32, d_state=2), 1e-5)


def test_float16() -> None:
    assert_agrees(triton, make_problem(3, 3, dtype=torch.float16, d_state=2), 2e-3)


def test_bfloat16() -> None:
    assert_agrees(triton, make_problem(3, 3, dtype=torch.bfloat16, d_state=2), 1e-2)


def test_large_and_tiny_steps() -> None:
    problem = make_problem(2, 4, ('h',), channels=4, d_state=2, dtype=torch.float32)
    problem.inputs.dt[:, ::2] = 10.0
    problem.inputs.dt[:, 1::2] = -12.0

    assert_agrees(triton, problem, 1e-5)


def test_empty_batch() -> None:
    assert_agrees(triton, make_problem(3, 4, batch=0), 0)


def test_order_that_leaves_tokens_out() -> None:
    problem = make_problem(3, 4, ('h', 'v'), d_state=2)
    order = problem.inputs.order.clone()
    order[0, 3], order[1, 0] = -1, -1

    assert_agrees(triton, problem._replace(inputs=problem.inputs._replace(order=order)), 1e-12)


@pytest.mark.parametrize('spatial', [True, False])
def test_order_out_of_range_touches_nothing(spatial) -> None:
    """A token that there is not counts as padding: memory around the tensors stays as it is."""
    problem = make_problem(3, 4, ('h',), channels=4, d_state=2, spatial=spatial)
    order = problem.inputs.order.clone()
    order[0, 2], order[0, 7] = 12 * 10**6, -(10**6)
    wild = problem._replace(inputs=problem.inputs._replace(order=order))
    order = order.clone()
    order[0, 2], order[0, 7] = -1, -1
    tame = problem._replace(inputs=problem.inputs._replace(order=order))

    for name, got in run(triton, wild).items():
        assert torch.equal(got, run(triton, tame)[name]), name


def test_through_the_operation() -> None:
    problem = make_problem(2, 2, ('h',), channels=3, d_state=2)
    inputs = map_tensors(problem.inputs, lambda x: x.requires_grad_())
    outputs = [local_selective_scan(inputs, backend=name) for name in ('triton', 'reference')]

    torch.testing.assert_close(*outputs)
    for got, want in zip(*(torch.autograd.grad(y, tensors_of(inputs), problem.grad) for y in outputs), strict=True):
        torch.testing.assert_close(got, want)
