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
    segments,
)

ALL = [fused_forward, fused_backward, permute_forward, permute_backward]
A100 = GPUS['a100']


def test_layers_of_local_vmamba_tiny() -> None:
    layers = local_vmamba_layers(224, 224, (96, 192, 384, 768), (2, 2, 9, 2))

    assert [(layer.tokens, layer.channels, layer.rank, n) for layer, n in layers] == [
        (3136, 192, 6, 2),
        (784, 384, 12, 2),
        (196, 768, 24, 9),
        (49, 1536, 48, 2),
    ]


def test_odd_maps_are_padded_at_the_stem_and_between_stages() -> None:
    layers = local_vmamba_layers(19, 27, (8, 16), (1, 1))

    assert [layer.tokens for layer, _ in layers] == [5 * 7, 3 * 4]


def test_layers_of_local_vim_tiny() -> None:
    assert local_vim_layers(224, 224, 192, 20) == [(Layer(196, 384, rank=12, spatial=False), 20)]


def test_the_permuting_forward_by_hand() -> None:
    # 2 tokens, 3 channels, 1 direction, 1 state, rank 1, 2 bytes: u and dt 6 numbers each, B and C 2 each, y 6.
    layer = Layer(2, 3, directions=1, d_state=1, rank=1)
    expand, gather, scan, scatter, states = 2 + 6, 4 * (6 + 6 + 2 + 2), 6 + 6 + 2 + 2 + 6, 2 * 2 * 6, 2 * 4 * 3
    cost = permute_forward(layer, A100)

    assert cost.bytes == 2 * (expand + gather + scan + scatter) + states
    assert (cost.exponentials, cost.products) == (6, 2 * 6 * 1)


def test_the_fused_forward_by_hand() -> None:
    # Large enough for one segment: 100 images of 2 tokens, 128 channels in four blocks, 1 state, rank 3, 2 bytes.
    layer = Layer(2, 128, directions=4, d_state=1, rank=3, batch=100)
    wide, dt, narrow = 100 * 4 * 2 * 128, 100 * 4 * 2 * 3, 100 * 4 * 2
    cost = fused_forward(layer, A100)

    assert segments(layer, A100, 16) == 1
    assert cost.bytes == 2 * (wide + 4 * (dt + narrow) + 4 * narrow + 2 * wide) + 4 * 4 * 2 * 4
    assert cost.exponentials == wide
    assert cost.steps == 2


def test_an_image_alone_is_cut_into_segments_and_scanned_twice() -> None:
    alone, many = Layer(3136, 192), Layer(3136, 192, batch=128)

    assert segments(many, A100, 16) == 1
    assert segments(alone, A100, 16) > 8
    assert fused_forward(many, A100).exponentials == many.per_channel * 16
    assert fused_forward(alone, A100).exponentials == 2 * alone.per_channel * 16
    assert fused_forward(alone, A100).steps < 3136 / 2


def test_states_are_kept_for_a_backward_alone() -> None:
    layer = Layer(3136, 192)
    kept = fused_forward(layer, A100).bytes - fused_forward(layer, A100, keep=False).bytes

    assert kept == 4 * 4 * 48 * 192 * 16  # 49 chunks of 64 steps, but the first


@pytest.mark.parametrize('estimate', ALL)
def test_half_precision_moves_less(estimate) -> None:
    half, full = (estimate(Layer(3136, 192, batch=8, itemsize=item), A100) for item in (2, 4))

    assert 1.3 < full.bytes / half.bytes <= 2


@pytest.mark.parametrize('estimate', ALL)
def test_cost_is_linear_in_a_large_batch(estimate) -> None:
    one, two = (estimate(Layer(4096, 96, batch=batch), A100) for batch in (200, 400))

    assert two.bytes == pytest.approx(2 * one.bytes, rel=0.01)
    assert two.exponentials == 2 * one.exponentials


def test_tokens_of_their_own_cost_more_gradients() -> None:
    shared, own = (fused_backward(Layer(196, 384, batch=64, spatial=spatial), A100) for spatial in (True, False))

    assert own.bytes != shared.bytes


def test_time_is_that_of_the_slowest_bound() -> None:
    assert Cost(A100.bandwidth, 0).seconds(A100) == 1
    assert Cost(A100.bandwidth, 3 * A100.exponentials).seconds(A100) == 3
    assert Cost(0, 0, products=2 * A100.matrix_products).seconds(A100) == 2
    assert Cost(0, 0, steps=round(A100.clock / (16 * 8))).seconds(A100) == pytest.approx(1)
