import pytest

from mmlocalmamba.models import LocalVim, LocalVMamba


@pytest.fixture
def roofline(tool):
    return tool('benchmark/roofline')


def test_it_says_that_it_is_an_estimate(roofline, capsys):
    roofline.main(['--model', 'local_vim_tiny', '--batch', '2'])
    text = capsys.readouterr().out
    assert text.startswith('ESTIMATE, nothing measured: scan of local_vim_tiny, 2 x 224 x 224')
    assert 'all layers, backward fused: A100' in text


@pytest.mark.parametrize('size', ['tiny', 'small'])
def test_layers_are_those_of_the_models(roofline, size):
    vmamba, vim = LocalVMamba.arch_zoo[size], LocalVim.arch_zoo[size]
    layers = roofline.MODELS[f'local_vmamba_{size}'](224, 224)
    assert [(layer.channels // 2, count) for layer, count in layers] == list(
        zip(vmamba['dims'], vmamba['depths'], strict=True)
    )
    ((layer, count),) = roofline.MODELS[f'local_vim_{size}'](224, 224)
    assert (layer.channels // 2, count) == (vim['embed_dim'], vim['depth'])
