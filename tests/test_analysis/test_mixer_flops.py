import pytest
import torch
from torch import nn

from mmlocalmamba.analysis.flops import count_model
from mmlocalmamba.analysis.mixer_flops import counting, scan_flops, scan_length, ss2d_cost, vim_mixer_cost
from mmlocalmamba.directions import CANDIDATES, CROSS_SCAN, scan_orders
from mmlocalmamba.models.layers.bidirectional_mixer import BidirectionalMixer
from mmlocalmamba.models.layers.ss2d import SS2D
from mmlocalmamba.models.layers.vim_mixer import VimMixer
from mmlocalmamba.ops import ScanInputs, local_selective_scan

DIM, INNER, STATES, RANK, HIDDEN = 16, 32, 4, 1, 4
WINDOWS = ('h', 'v_flip', 'w2', 'w7')


def test_the_scan_by_hand():
    assert scan_flops(positions=10, channels=6, d_state=4, directions=3) == 3 * (9 * 10 * 6 * 4 + 10 * 6)


@pytest.mark.parametrize('names', [('h',), ('v_flip',), ('w2', 'h'), ('w7_flip', 'w2'), ('w3',), CANDIDATES])
@pytest.mark.parametrize('size', [(14, 14), (7, 9), (1, 5)])
def test_the_length_is_that_of_the_orders(names, size):
    assert scan_length(names, *size) == scan_orders(names, *size).shape[1]


def test_local_vmambas_mixer_by_hand():
    tokens, padded = 5 * 8, 7 * 14
    linear = tokens * DIM * 2 * INNER + tokens * INNER * DIM
    conv = tokens * INNER * 9
    projections = 4 * tokens * INNER * (RANK + 2 * STATES + RANK)
    gates = 4 * (tokens * INNER + 2 * INNER * HIDDEN)
    scan = scan_flops(padded, INNER, STATES, 4)
    cost = ss2d_cost(SS2D(DIM, WINDOWS, STATES), 1, 5, 8)
    assert cost.flops == cost.published_flops == linear + conv + projections + gates + scan
    assert cost.scan_flops == scan


def test_the_mixer_of_vmambas_second_version_by_hand():
    tokens, channels = 5 * 8, 24  # no gate, and as many inner channels as outer ones
    projections = 4 * tokens * channels * (2 + 2 * 1 + 2)
    scan = scan_flops(tokens, channels, 1, 4)
    mixer = SS2D(24, CROSS_SCAN, d_state=1, ssm_ratio=1.0, attn=False, gate=False, conv_bias=False)
    cost = ss2d_cost(mixer, 1, 5, 8)
    assert cost.flops == 2 * tokens * channels**2 + tokens * channels * 9 + projections + scan


def test_vims_mixer_by_hand():
    tokens = 41  # 5 x 8 and the class token, in one row
    linear = tokens * DIM * 2 * INNER + tokens * INNER * DIM
    per_direction = tokens * INNER * (RANK + 2 * STATES + RANK + 4)
    scan = scan_flops(tokens, INNER, STATES, 2)
    assert vim_mixer_cost(BidirectionalMixer(DIM, STATES), 1, 1, tokens).flops == linear + 2 * per_direction + scan


@pytest.mark.parametrize('middle', [0, 1])
def test_local_vims_mixer_by_hand(middle):
    tokens, padded = 5 * 8 + middle, 7 * 14 + middle
    linear = tokens * DIM * 2 * INNER + tokens * INNER * DIM
    conv = 4 * padded * INNER * 3
    projections = 4 * padded * INNER * (RANK + 2 * STATES + RANK)
    gates = 4 * (tokens * INNER + 2 * INNER * HIDDEN)
    scan = scan_flops(padded, INNER, STATES, 4)
    cost = vim_mixer_cost(VimMixer(DIM, WINDOWS, STATES, conv_width=3, middle_token=bool(middle)), 1, 5, 8)
    assert cost.flops == linear + conv + projections + gates + scan
    assert cost.published_flops == linear + projections // 4 + gates + 4 * 5 * padded * INNER * STATES
    assert cost.scan_flops == scan


def extra_flops(**arguments):
    """What a variant of the mixer costs more than the one without SCAttn, on 5 x 8 tokens."""
    options = (dict(attn=False), {'attn': False, **arguments})
    plain, variant = (ss2d_cost(SS2D(DIM, WINDOWS, **each), 1, 5, 8) for each in options)
    return variant.flops - plain.flops


def test_a_spatial_gate_counts_its_two_layers_per_token():
    layers = INNER * HIDDEN + 2 * HIDDEN
    assert extra_flops(attn=True, spatial_attn=True) == 4 * (2 * INNER * HIDDEN + 40 * layers)


def test_a_supernet_weighs_every_branch():
    assert extra_flops(search=True) == 4 * 40 * INNER


@pytest.mark.parametrize('arguments', [dict(), dict(spatial_attn=True), dict(attn=False), dict(search=True)])
@pytest.mark.parametrize('backend', ['auto', 'chunked'])
def test_what_torch_sees_inside_a_mixer_is_taken_back(arguments, backend, monkeypatch):
    monkeypatch.setenv('MMLOCALMAMBA_BACKEND', backend)
    mixer = SS2D(DIM, WINDOWS, **arguments)
    with counting(mixer) as (counter, tally), torch.no_grad():
        mixer(torch.zeros(2, 5, 8, DIM))
    assert tally.seen == counter.get_total_flops() > 0
    assert tally.cost == ss2d_cost(mixer, 2, 5, 8)


def test_calls_add_up_however_the_arguments_are_passed():
    mixer = VimMixer(DIM, WINDOWS)
    with counting(mixer) as (_, tally), torch.no_grad():
        mixer(torch.zeros(1, 40, DIM), 5, 8)
        mixer(width=8, x=torch.zeros(1, 40, DIM), height=5)
    once = vim_mixer_cost(mixer, 1, 5, 8)
    assert tally.cost == once + once


def test_no_hooks_stay_behind():
    mixer = SS2D(DIM, WINDOWS)
    with pytest.raises(RuntimeError), counting(mixer), torch.no_grad():
        mixer(torch.zeros(1, 5, 8, DIM + 1))
    assert not mixer._forward_hooks
    assert not mixer._forward_pre_hooks


class Scanner(nn.Module):
    """A scan in a module of its own, which no formula knows."""

    def forward(self, image):
        x = image.flatten(2).transpose(1, 2)  # (B, L, 3)
        per_state = x[..., None].expand(-1, -1, -1, 2).transpose(2, 3)[:, :, :1]
        order = scan_orders(['h'], *image.shape[2:])
        A, D = torch.zeros(1, 3, 3), torch.zeros(1, 3)
        return local_selective_scan(ScanInputs(x, x[:, :, None], A, per_state, per_state, D, D, order))


def test_a_scan_without_a_formula_is_refused():
    with pytest.raises(ValueError, match='a selective scan runs outside of SS2D and VimMixer'):
        count_model(Scanner(), 4, 6)
