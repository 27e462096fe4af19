import pytest
import torch

from mmlocalmamba.ops.backends import chunked, reference

from .problems import assert_agrees, make_problem, run

SIZES = [(1, 1), (1, 5), (3, 5), (7, 9), (16, 3)]


@pytest.fixture
def segmented(monkeypatch) -> None:
    """Cut sequences as on an accelerator: several segments side by side."""
    monkeypatch.setattr(chunked, '_layout', lambda _device, length, _state: chunked._Layout(3, -(-length // 12), 4))


@pytest.mark.parametrize('spatial', [True, False])
@pytest.mark.parametrize('size', SIZES)
def test_agrees_with_reference(size, spatial) -> None:
    problem = make_problem(*size, ('h', 'v_flip', 'w2', 'w7_flip'), batch=2, spatial=spatial)

    assert_agrees(chunked, problem, 1e-12)


@pytest.mark.parametrize('spatial', [True, False])
@pytest.mark.parametrize('size', SIZES)
@pytest.mark.usefixtures('segmented')
def test_segments_agree_with_reference(size, spatial) -> None:
    problem = make_problem(*size, ('h', 'v_flip', 'w2', 'w7_flip'), batch=2, spatial=spatial)

    assert_agrees(chunked, problem, 1e-12)


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)])
def test_low_precision_tokens(dtype, tolerance) -> None:
    assert_agrees(chunked, make_problem(6, 7, dtype=dtype), tolerance)


def test_strided_tokens() -> None:
    assert_agrees(chunked, make_problem(5, 7, channels=5, d_state=7, strided=True), 1e-12)


def test_empty_batch() -> None:
    assert_agrees(chunked, make_problem(3, 4, batch=0), 0)


@pytest.mark.usefixtures('segmented')
def test_large_steps_stay_finite() -> None:
    problem = make_problem(6, 6, dtype=torch.float32)
    problem.inputs.dt.mul_(100)

    assert_agrees(chunked, problem, 1e-4)


def test_states_are_kept_only_on_request() -> None:
    assert chunked.forward(make_problem(5, 5).inputs, False)[1].numel() == 0


def test_states_grow_linearly() -> None:
    inputs = make_problem(1, 1).inputs
    orders = [torch.zeros(2, length, dtype=torch.int32) for length in (1024, 4096)]
    sizes = [torch.Size(chunked.states_shape(inputs._replace(order=order))).numel() for order in orders]

    assert sizes[1] == 4 * sizes[0]


def test_result_does_not_depend_on_thread_count() -> None:
    problem = make_problem(12, 12, channels=64, d_state=16, dtype=torch.float32)
    one = run(chunked, problem)
    torch.set_num_threads(4)
    try:
        four = run(chunked, problem)
    finally:
        torch.set_num_threads(1)

    for a, b in zip(one.values(), four.values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('spatial', [True, False])
def test_reference_backward_is_that_of_autograd(spatial) -> None:
    assert_agrees(reference, make_problem(3, 5, ('v', 'w2_flip'), spatial=spatial), 1e-12)
