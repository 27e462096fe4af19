import pytest
import torch

from mmlocalmamba.models import LocalVim, LocalVMamba
from mmlocalmamba.ops import local_selective_scan
from scan_calls import ScanWork, arguments_by_name, backward_calls, forward_calls

IMAGE = (1, 3, 64, 64)


@pytest.fixture
def vmamba():
    return LocalVMamba('micro').eval()


@pytest.fixture
def vim():
    arch = dict(embed_dim=16, depth=2, directions=[['h', 'v'], ['w7', 'w7_flip']])
    return LocalVim(arch, img_size=64, out_indices=(1,))


def step(model):
    def run():
        torch.cat([x.flatten() for x in model(torch.ones(IMAGE))]).square().sum().backward()

    return run


def test_every_layer_is_recorded_in_order(vmamba):
    calls = forward_calls(vmamba, torch.ones(IMAGE), expected=5)
    assert [call.work.channels for call in calls] == [64, 128, 256, 256, 512]
    assert [call.work.tokens for call in calls] == [256, 64, 16, 16, 4]
    assert {(call.work.batch, call.work.directions, call.work.d_state, call.work.itemsize) for call in calls} == {
        (1, 4, 16, 4)
    }
    assert all(call.work.spatial for call in calls)


def test_backwards_come_in_the_order_of_the_layers(vmamba):
    works = [call.work for call in forward_calls(vmamba, torch.ones(IMAGE), 5)]
    assert [call.work for call in backward_calls(step(vmamba), 5)] == works


def test_a_call_can_be_made_again_and_by_the_public_function(vmamba):
    call = forward_calls(vmamba, torch.randn(IMAGE), 5)[3]
    with torch.no_grad():
        y, states = call()
        torch.testing.assert_close(local_selective_scan(call.inputs), y)
    assert states.numel() == 0  # nothing is kept where there is no backward


def test_a_backward_can_be_made_again(vmamba):
    (*_, call) = backward_calls(step(vmamba), 5)
    first, second = call(), call()
    assert first[0].shape == call.arguments['u'].shape
    torch.testing.assert_close(first, second)


@torch.library.custom_op('mmlocalmamba_benchmark_test::scale', mutates_args=())
def scale(x: torch.Tensor, factor: float = 2.0, offset: float = 0.5) -> torch.Tensor:
    return x * factor + offset


def test_arguments_are_named_as_in_the_schema_defaults_included():
    operation, x = torch.ops.mmlocalmamba_benchmark_test.scale.default, torch.ones(2)
    assert arguments_by_name(operation, (x,), {}) == {'x': x, 'factor': 2.0, 'offset': 0.5}
    assert arguments_by_name(operation, (x, 3.0), {'offset': 1.0}) == {'x': x, 'factor': 3.0, 'offset': 1.0}


def test_another_number_of_scans_is_an_error(vmamba):
    with pytest.raises(RuntimeError, match='5 calls of mmlocalmamba::selective_scan were seen where 4 were expected'):
        forward_calls(vmamba, torch.ones(IMAGE), expected=4)


def test_local_vim_scans_in_scan_order_without_the_padding_behind_the_last_token(vim):
    plain, windows = (call.work for call in forward_calls(vim, torch.ones(IMAGE), 2))
    assert not plain.spatial
    assert (plain.tokens, plain.positions, plain.visited) == (16, 16, 32)
    # 4 x 4 tokens in one window of 7 x 7: the last one is at row 3, column 3; the flip ends with the first one
    assert (windows.tokens, windows.positions, windows.visited) == (16, 49, (3 * 7 + 3 + 1) + 49)


def work(**sizes):
    common = dict(batch=2, tokens=10, positions=12, visited=21, directions=2, channels=6, d_state=4)
    return ScanWork(**common, dt_width=3, itemsize=2, **sizes)


def test_the_least_work_in_own_places_by_hand():
    spatial = work(spatial=True)
    assert spatial.exponentials == 2 * 2 * 10 * 6 * 4
    u, dt, B_and_C, y = 2 * 10 * 6, 2 * 10 * 2 * 3, 2 * 2 * 10 * 2 * 4, 2 * 2 * 10 * 6
    assert spatial.forward_bytes == 2 * (u + dt + B_and_C + y)
    assert spatial.backward_bytes == 2 * (2 * (u + dt + B_and_C) + y)


def test_the_least_work_in_scan_order_by_hand():
    scanned = work(spatial=False)
    assert scanned.exponentials == 2 * 21 * 6 * 4
    u, dt, B_and_C, y = 2 * 21 * 6, 2 * 21 * 3, 2 * 2 * 21 * 4, 2 * 2 * 10 * 6
    assert scanned.forward_bytes == 2 * (u + dt + B_and_C + y)
    assert scanned.backward_bytes == 2 * (2 * (u + dt + B_and_C) + y)
