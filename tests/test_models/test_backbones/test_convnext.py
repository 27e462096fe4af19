import pytest
import timm
import torch

from mmlocalmamba.models import ConvNeXt


def pretrained(path):
    return dict(type='Pretrained', checkpoint=str(path))


def published(state):
    """Give timm's tensors as the authors name them."""
    renamed = {}
    for name, value in state.items():
        name = name.replace('stem.', 'downsample_layers.0.').replace('head.norm.', 'norm.').replace('head.fc.', 'head.')
        if '.downsample.' in name:
            _, stage, _, rest = name.split('.', 3)
            name = f'downsample_layers.{stage}.{rest}'
        name = name.replace('.blocks.', '.').replace('conv_dw', 'dwconv').replace('mlp.fc', 'pwconv')
        renamed[name] = value
    return renamed


@pytest.fixture(scope='module')
def whole():
    """timm's whole model, with weights that differ from those of construction."""
    model = timm.create_model('convnext_tiny').eval()
    for parameter in model.parameters():
        parameter.data.add_(0.01 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize('naming', ['published', 'timm', 'ours'])
def test_weights_are_taken_as_they_are_named(naming, whole, tmp_path):
    state = whole.state_dict()
    if naming == 'ours':
        state = {f'backbone.{name}': value for name, value in state.items() if not name.startswith('head.')}
    torch.save({'model': published(state)} if naming == 'published' else state, tmp_path / 'weights.pth')
    backbone = ConvNeXt(out_indices=(1, 3), init_cfg=pretrained(tmp_path / 'weights.pth')).eval()
    backbone.init_weights()
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps = backbone(image)
        features = whole.forward_features(image)
    assert [tuple(x.shape) for x in maps] == [(1, 192, 8, 12), (1, 768, 2, 3)]
    normalised = torch.nn.functional.layer_norm(features.permute(0, 2, 3, 1), (768,), eps=1e-6)
    torch.testing.assert_close(maps[1], normalised.permute(0, 3, 1, 2), atol=1e-4, rtol=1e-4)


def test_stages_after_the_last_output_are_left_out(whole, tmp_path):
    torch.save(whole.state_dict(), tmp_path / 'weights.pth')
    backbone = ConvNeXt(out_indices=(0,), init_cfg=pretrained(tmp_path / 'weights.pth'))
    backbone.init_weights()
    assert len(backbone.stages) == 1
    assert torch.equal(backbone.stages[0].blocks[0].conv_dw.weight, whole.stages[0].blocks[0].conv_dw.weight)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda state: state.pop('stem.0.bias'), 'missing: stem.0.bias'),
        (lambda state: state.update(wheels=torch.zeros(1)), 'unexpected: wheels'),
        (lambda state: state.update({'stem.0.bias': torch.zeros(2)}), 'of another shape: stem.0.bias'),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, message, whole, tmp_path):
    state = dict(whole.state_dict())
    change(state)
    torch.save(state, tmp_path / 'weights.pth')
    with pytest.raises(ValueError, match=message):
        ConvNeXt(init_cfg=pretrained(tmp_path / 'weights.pth')).init_weights()


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="arch='huge' is unknown"):
        ConvNeXt(arch='huge')
    with pytest.raises(ValueError, match='init_cfg wants'):
        ConvNeXt(init_cfg=dict(type='Pretrained', checkpoint='a.pth', warm_start=True)).init_weights()
