import pytest

from scan_costs import (
    GPUS,
    Cost,
    Layer,
    fused_backward,
    fused_forward,
    local_vim_layers,
    local_vmamba_layers,
    permute_backward,
    permute_forward,
)

ALL = [fused_forward, fused_backward, permute_forward, permute_backward]


def test_layers_of_local_vmamba_tiny() -> None:
    layers = local_vmamba_layers(224, 224, (96, 192, 384, 768), (2, 2, 9, 2))

    assert [(layer.tokens, layer.channels, n) for layer, n in layers] == [
        (3136, 192, 2),
        (784, 384, 2),
        (196, 768, 9),
        (49, 1536, 2),
    ]


def test_odd_maps_are_padded_between_stages() -> None:
    layers = local_vmamba_layers(20, 28, (8, 16), (1, 1))

    assert [layer.tokens for layer, _ in layers] == [5 * 7, 3 * 4]


def test_layers_of_local_vim_tiny() -> None:
    assert local_vim_layers(224, 224, 192, 20) == [(Layer(196, 384), 20)]


def test_bytes_of_the_permuting_forward_by_hand() -> None:
    # 2 tokens, 3 channels, 1 direction, 1 state, 2 bytes: u and dt 6 numbers each, B and C 2 each, y 6.
    layer = Layer(2, 3, directions=1, d_state=1)
    gather, scan, scatter, states = 2 * (6 + 6 + 2 + 2), 6 + 6 + 2 + 2 + 6, 2 * 6, 2 * 4 * 3

    assert permute_forward(layer) == Cost(2 * (gather + scan + scatter) + states, 6)


def test_one_segment_needs_one_pass() -> None:
    one, several = Layer(196, 768, batch=128), Layer(16384, 192)
    wide = one.per_channel * 16

    assert (fused_forward(one).exponentials, fused_backward(one).exponentials) == (wide, 2 * wide)
    wide = several.per_channel * 16
    assert (fused_forward(several).exponentials, fused_backward(several).exponentials) == (2 * wide, 3 * wide)


@pytest.mark.parametrize('estimate', ALL)
def test_cost_is_linear_in_the_batch_where_no_scan_is_cut(estimate) -> None:
    one, two = (estimate(Layer(784, 96, batch=batch)) for batch in (256, 512))

    assert two.bytes == pytest.approx(2 * one.bytes, rel=0.01)
    assert two.exponentials == 2 * one.exponentials


def test_time_is_that_of_the_slowest_bound() -> None:
    gpu = GPUS['a100']

    assert Cost(gpu.bandwidth, 0).seconds(gpu) == 1
    assert Cost(gpu.bandwidth, 3 * gpu.exponentials).seconds(gpu) == 3
