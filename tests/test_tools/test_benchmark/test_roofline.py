import pytest

from block_costs import LAUNCH, local_vim_block, local_vmamba_block, model_seconds, seconds
from mmlocalmamba.models import LocalVim, LocalVMamba
from scan_costs import GPUS, Cost, Layer

A100 = GPUS['a100']


@pytest.fixture
def roofline(tool):
    return tool('benchmark/roofline')


@pytest.mark.parametrize('model', ['local_vmamba_tiny', 'local_vim_tiny'])
def test_it_says_that_it_is_an_estimate(roofline, capsys, model):
    roofline.main(['--model', model, '--batch', '2'])
    text = capsys.readouterr().out
    assert text.startswith(f'ESTIMATE, nothing measured: {model}, 2 x 224 x 224')
    assert 'ESTIMATED images per second, nothing measured. Assumptions' in text
    assert 'upper limits' in text
    for gpu in GPUS.values():
        assert f'{gpu.name}, one of' in text


@pytest.mark.parametrize('size', ['tiny', 'small'])
def test_layers_are_those_of_the_models(roofline, size):
    vmamba, vim = LocalVMamba.arch_zoo[size], LocalVim.arch_zoo[size]
    layers = roofline.MODELS[f'local_vmamba_{size}'](224, 224)
    assert [(layer.channels // 2, count) for layer, count in layers] == list(
        zip(vmamba['dims'], vmamba['depths'], strict=True)
    )
    ((layer, count),) = roofline.MODELS[f'local_vim_{size}'](224, 224)
    assert (layer.channels // 2, count) == (vim['embed_dim'], vim['depth'])


def test_ranks_are_those_of_the_models(roofline):
    ((layer, _),) = roofline.MODELS['local_vim_tiny'](224, 224)
    assert layer.rank == LocalVim('tiny', out_indices=(0,)).layers[0].mixer.dt_rank


def test_the_totals_are_sums(roofline):
    rows = roofline.scan_rows(roofline.MODELS['local_vmamba_tiny'](224, 224, batch=4))
    *layers, total = [row for row in rows if row['pass'] == 'forward fused']
    assert total['a100 us'] == pytest.approx(sum(row['x'] * row['a100 us'] for row in layers))
    block = roofline.block_rows(local_vmamba_block(Layer(196, 768), A100), A100)
    assert block[-1]['forward us'] == pytest.approx(sum(row['forward us'] for row in block[:-1]))


@pytest.mark.parametrize(('count', 'most'), [(local_vmamba_block, 14), (local_vim_block, 12)])
def test_launches_of_a_forward_are_within_what_is_aimed_at(count, most):
    assert sum(operation.forward.launches for operation in count(Layer(196, 768, batch=64), A100)) <= most


def test_small_work_takes_as_long_as_its_launches():
    assert seconds(Cost(1, 1, launches=3), A100) == 3 * LAUNCH


def test_larger_gpus_and_batches_are_faster_and_training_slower(roofline):
    rows = [row for row in roofline.throughput_rows('local_vmamba_tiny', (224, 224), 2) if row['scan'] == 'fused']
    for row in rows:
        assert row['a100 training'] < row['a100 inference'] <= row['h100 inference']
    assert rows[0]['a100 inference'] < rows[1]['a100 inference']


def test_the_estimate_lies_above_what_was_published(roofline):
    """VMamba-T of the same kind was measured at 638 and 195 images per second: an upper limit is not below."""
    rows = roofline.throughput_rows('local_vmamba_tiny', (224, 224), 4)
    (row,) = [row for row in rows if row['scan'] == 'permute' and row['batch'] == 128]
    assert row['a100 inference'] > 638
    assert row['a100 training'] > 195


def test_a_batch_takes_the_time_of_all_blocks():
    block = local_vim_block(Layer(196, 384, spatial=False), A100)
    one, many = (model_seconds([(block, count)], A100, training=True) for count in (1, 20))
    assert many == pytest.approx(20 * one)
