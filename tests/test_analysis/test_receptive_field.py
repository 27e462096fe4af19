import numpy as np
import pytest
import torch

from mmlocalmamba.analysis.plot_receptive_field import plot_receptive_fields
from mmlocalmamba.analysis.receptive_field import build_model, centre_of, receptive_field, share_above

IMAGES = [torch.linspace(-1, 1, 3 * 64 * 64).reshape(3, 64, 64)]


def test_the_field_of_a_convolution_is_its_kernel():
    kernel = torch.tensor([[1.0, -2.0, 0.0], [0.0, 4.0, 0.0], [0.5, 0.0, -1.0]])
    weight = kernel.expand(2, 3, 3, 3)  # two channels out, three in

    def centre(images):
        return torch.nn.functional.conv2d(images, weight, padding=1)[:, :, 4, 5]

    field = receptive_field(centre, [torch.zeros(3, 9, 9)] * 2)

    expected = np.zeros((9, 9))
    expected[3:6, 4:7] = kernel.abs().numpy() / 4
    np.testing.assert_allclose(field, expected)
    assert share_above(field, 0.3) == 2 / 81


def test_a_stage_is_its_last_block():
    model = build_model('local_vmamba_micro', 64)
    stage, block = (receptive_field(centre_of(model, layer), IMAGES) for layer in ('2', '2.1'))
    np.testing.assert_allclose(stage, block, rtol=1e-5)


@pytest.mark.parametrize('name', ['local_vmamba_micro', 'local_vim_micro', 'vim_micro'])
def test_later_layers_listen_to_more(name):
    model = build_model(name, 64)
    fields = [receptive_field(centre_of(model, layer), IMAGES) for layer in ('0', '3')]
    for field in fields:
        assert field.shape == (64, 64)
        assert field.max() == 1
        row, column = np.unravel_index(field.argmax(), field.shape)
        assert 24 <= row < 48
        assert 24 <= column < 48
    assert share_above(fields[0], 0.01) < share_above(fields[1], 0.01)


@pytest.mark.slow
def test_the_first_block_of_swin_listens_to_its_window():
    pytest.importorskip('timm')
    model = build_model('timm:swin_tiny_patch4_window7_224', 224)
    image = torch.randn(3, 224, 224, generator=torch.Generator().manual_seed(0))
    field = receptive_field(centre_of(model, '0.0'), [image])
    rows, columns = field.nonzero()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (112, 139, 112, 139)


def test_weights_of_a_config_are_those_of_the_file(tmp_path):
    pytest.importorskip('mmengine')
    (tmp_path / 'c.py').write_text("model = dict(backbone=dict(type='mmlocalmamba.LocalVMamba', arch='micro'))")
    trained = build_model('local_vmamba_micro', 64)
    torch.nn.init.ones_(trained.patch_embed.norm.bias)
    torch.save({'state_dict': {f'backbone.{k}': v for k, v in trained.state_dict().items()}}, tmp_path / 'w.pth')

    before, after = (build_model(f'{tmp_path}/c.py{weights}', 64) for weights in ('', f'={tmp_path}/w.pth'))

    assert not before.patch_embed.norm.bias.any()
    assert after.patch_embed.norm.bias.all()


@pytest.mark.parametrize(
    ('layer', 'message'), [('2.7', 'has no layer 2.7'), ('9', 'has no layer 9'), ('last', 'want a stage such as 2')]
)
def test_layers_that_are_not_there_are_refused(layer, message):
    with pytest.raises(ValueError, match=message):
        centre_of(build_model('local_vmamba_micro', 64), layer)


def test_unknown_models_are_refused():
    with pytest.raises(ValueError, match="no backbone 'local_vmamba_huge'"):
        build_model('local_vmamba_huge', 64)


def test_the_figure_shows_every_field():
    field = np.full((4, 4), 1e-6)
    field[1, 2] = 1
    figure = plot_receptive_fields({'a': [field, field], 'b': [field, field]}, ['0', '1'], 'caption')
    panels = figure.axes[:4]
    assert [axes.get_title() for axes in panels] == ['layer 0', 'layer 1', '', '']
    assert [axes.get_ylabel() for axes in panels] == ['a', '', 'b', '']
    assert {axes.get_xlabel() for axes in panels} == {'6.2 % of pixels above 0.01'}
    assert panels[3].images[0].get_array().argmax() == 6
