import pytest
import torch
from torch import nn

import model_measures
from compared_models import deit, local_vim, local_vmamba, swin, vim, vmamba
from model_measures import count
from timing import Setup

SMALL = Setup(threads=1, runs=1, small=True)


@pytest.fixture
def timed(monkeypatch):
    """The published sizes, with nothing built and nothing run: every round takes as long as there are pixels."""
    for name in ('local_vmamba', 'swin', 'local_vim', 'deit'):
        monkeypatch.setattr(model_measures, name, lambda *_, **__: nn.Conv2d(3, 1, 1))
    monkeypatch.setattr(model_measures, 'forward_of', lambda model, image, autocast=False: image.numel)
    monkeypatch.setattr(model_measures, 'step_of', lambda model, image: image.numel)
    monkeypatch.setattr(model_measures, 'draw_image', lambda setup, side: torch.empty(1, 3, side, side))
    monkeypatch.setattr(
        model_measures,
        'interleaved',
        lambda functions, runs, device, warm_up=None: {k: [float(run())] * runs for k, run in functions.items()},
    )


@pytest.mark.parametrize(
    ('measure', 'bounds'),
    [
        ('forward', {'LocalVMamba-T forward': (1.3, 1.0)}),
        ('training', {'LocalVMamba-T forward + backward': (1.6, 1.3)}),
        ('vim', {'LocalVim-T forward': (2.0, None), 'LocalVim-T forward + backward': (None, None)}),
    ],
)
def test_bounds_stand_beside_the_ratios(timed, measure, bounds):
    result = getattr(model_measures, measure)(Setup(runs=2))
    found = {row.name: (row.wanted, row.aim) for row in result.comparisons if row.unit == 'ms'}
    assert found == bounds
    assert {row.ratio for row in result.comparisons} == {1.0}
    assert '1 x 3 x 224 x 224' in result.title


def test_growth_is_wanted_to_be_linear_in_tokens(timed):
    result = model_measures.resolution(Setup(runs=2))
    wanted = {(row.name, row.base): row.wanted for row in result.comparisons}
    assert wanted.pop(('LocalVMamba-T 1024²', 'LocalVMamba-T 512²')) == pytest.approx(4.4)
    assert wanted.pop(('LocalVMamba-T 2048²', 'LocalVMamba-T 512²')) == pytest.approx(17.6)
    assert set(wanted.values()) == {None}
    assert [row.ratio for row in result.comparisons] == [4.0, 16.0] * 4
    (table,) = result.tables
    first = table.rows[0]
    assert (first['model'], first['side'], first['tokens'], first['ms']) == ('LocalVMamba-T', 256, 256, 3e3 * 256**2)


@pytest.mark.parametrize('measure', ['forward', 'training'])
def test_local_vmamba_is_measured_against_swin(measure):
    time, flops = getattr(model_measures, measure)(SMALL).comparisons
    assert (time.base, time.unit, time.wanted) == ('Swin-micro', 'ms', None)
    assert time.value > 0 < time.base_value
    assert flops.value == count(local_vmamba(SMALL), 64).flops / 1e9
    assert flops.base_value == count(swin(SMALL, 64), 64).flops / 1e9


def test_local_vim_is_measured_against_deit_with_flops_in_both_conventions():
    rows = model_measures.vim(SMALL).comparisons
    assert [row.unit for row in rows] == ['ms', 'ms', 'G', 'G']
    assert {row.base for row in rows} == {'DeiT-micro'}
    cost = count(local_vim(SMALL, 64), 64)
    assert [row.value for row in rows[2:]] == [cost.flops / 1e9, cost.published_flops / 1e9]
    assert rows[2].ratio > rows[3].ratio


def test_baselines_are_measured_against_models_of_their_kind():
    rows = model_measures.baselines(SMALL).comparisons
    assert [row.name.removeprefix('VMamba v2-micro ') for row in rows[:3]] == [
        'forward',
        'forward + backward',
        'FLOPs of a forward',
    ]
    assert [row.base for row in rows] == ['Swin-micro'] * 3 + ['DeiT-micro'] * 3
    assert rows[2].value == count(vmamba(SMALL), 64).flops / 1e9
    assert rows[5].value == count(vim(SMALL, 64), 64).flops / 1e9
    assert {row.wanted for row in rows} == {None}


def test_autocast_is_measured_against_float32_and_against_swin():
    first, second = model_measures.bf16(SMALL).comparisons
    assert first.name == second.name == 'LocalVMamba-micro bfloat16 forward'
    assert (first.base, second.base) == ('LocalVMamba-micro float32', 'Swin-micro bfloat16')


def test_growth_has_a_point_for_every_model_and_size():
    result = model_measures.resolution(SMALL)
    points = [(row['model'], row['side'], row['tokens']) for row in result.tables[0].rows]
    models = ('LocalVMamba-micro', 'Swin-micro', 'LocalVim-micro', 'DeiT-micro')
    assert points == [(model, side, (side // 16) ** 2) for model in models for side in (32, 64, 128)]
    assert all(row['ms'] > 0 for row in result.tables[0].rows)
    assert [row.name for row in result.comparisons] == [f'{model} 128²' for model in models]


def test_attention_counts_as_its_matrix_products():
    tokens, dim = 17, 64
    block = tokens * dim * (3 * dim + dim + 2 * 4 * dim) + 2 * tokens * tokens * dim
    assert count(deit(SMALL, 64), 64).flops == 16 * 16 * 16 * 3 * dim + 2 * block + dim * 1000
