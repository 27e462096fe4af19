"""LocalVim: arguments, outputs, gradients, freezing, layer depths."""

import pytest
import torch

from mmlocalmamba.models import LocalVim

pytestmark = pytest.mark.usefixtures('on_each_device')

MINI = dict(embed_dim=16, depth=3, directions=[['h', 'w2_flip'], ['v_flip'], ['w7', 'v', 'h_flip']])


def mini(**kwargs):
    return LocalVim(**{**dict(arch=MINI, img_size=32, patch_size=8, d_state=4, out_indices=(0, 2)), **kwargs})


@pytest.mark.parametrize('size', [(8, 8), (32, 32), (40, 24), (9, 61)])
@pytest.mark.parametrize('out_type', ['mixer', 'residual'])
def test_outputs_are_nchw_maps_at_the_patch_stride(size, out_type):
    maps = mini(out_type=out_type)(torch.randn(2, 3, *size))
    assert [m.shape for m in maps] == [(2, 16, -(-size[0] // 8), -(-size[1] // 8))] * 2


@pytest.mark.parametrize('variant', [{}, dict(middle_cls_token=True, rope=False, out_type='cls_token')])
def test_every_parameter_gets_a_finite_gradient(variant):
    model = mini(spatial_attn=True, **variant)
    sum(m.square().mean() for m in model(torch.randn(2, 3, 40, 24))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_class_token_output_is_a_vector():
    model = mini(middle_cls_token=True, rope=False, out_type='cls_token', out_indices=(-1,))
    (vector,) = model(torch.randn(2, 3, 32, 40))
    assert vector.shape == (2, 16)


def test_class_token_variant_gives_maps_without_the_token():
    maps = mini(middle_cls_token=True, rope=False)(torch.randn(1, 3, 32, 40))
    assert [m.shape for m in maps] == [(1, 16, 4, 5)] * 2


def test_residual_output_is_the_sum_that_the_next_block_reads():
    torch.manual_seed(0)
    model = mini(rope=False, out_type='residual', out_indices=(0,), out_norm=False).eval()
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        (output,) = model(image)
        embedded = model.patch_embed(image).flatten(1, 2) + model.pos_embed
        hidden, residual = model.layers[0](embedded, None, 4, 4)
    torch.testing.assert_close(output.flatten(2).transpose(1, 2), hidden + residual)


def test_blocks_after_the_last_output_are_not_built():
    model = mini(out_indices=(0, 1))
    assert len(model.layers) == 2
    assert len(model.directions) == 2


def test_checkpointing_changes_neither_values_nor_gradients():
    torch.manual_seed(0)
    plain, saving = mini(), mini(with_cp=True)
    saving.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 32, 32)
    for model in (plain, saving):
        sum(m.square().sum() for m in model(image)).backward()
    for (name, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


@pytest.mark.parametrize('frozen', [-1, 0, 2])
def test_frozen_stages(frozen):
    model = mini(frozen_stages=frozen).train()
    assert model.pos_embed.requires_grad == (frozen < 0)
    assert model.patch_embed.proj.weight.requires_grad == (frozen < 0)
    for i, layer in enumerate(model.layers):
        assert {p.requires_grad for p in layer.parameters()} == {i >= frozen}


def test_layer_depth_of_every_parameter():
    model = mini(middle_cls_token=True, rope=False)
    depth = {name: model.get_layer_depth(f'backbone.{name}', 'backbone.') for name, _ in model.named_parameters()}
    assert {layers for _, layers in depth.values()} == {5}
    assert {depth[n][0] for n in ('pos_embed', 'cls_token', 'cls_pos_embed', 'patch_embed.proj.bias')} == {0}
    assert depth['layers.2.mixer.D'][0] == 3
    assert depth['norm2.weight'][0] == 4


def test_drop_path_starts_at_the_second_block_and_reaches_the_output():
    model = mini(drop_path_rate=0.2)
    rates = [layer.drop_path.drop_prob for layer in model.layers] + [model.out_drop_path.drop_prob]
    assert rates == pytest.approx([0.0, 0.0, 0.1, 0.2])


@pytest.mark.parametrize(('arch', 'parameters'), [('tiny', 7.994), ('small', 27.784), ('small_without_search', 27.784)])
def test_published_sizes(arch, parameters):
    model = LocalVim(arch=arch, out_indices=(19,), out_norm=False)
    dim = model.pos_embed.shape[-1]
    assert (sum(p.numel() for p in model.parameters()) + dim + 1000 * (dim + 1)) / 1e6 == pytest.approx(
        parameters, abs=0.001
    )


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(arch='base'), "no arch 'base'"),
        (dict(arch=dict(embed_dim=16, depth=4, directions=[['h']])), 'directions for 1 blocks.*has 4'),
        (dict(out_indices=(3,)), r'out_indices=\(3,\).*0 to 2'),
        (dict(out_type='tokens'), "out_type='tokens' is unknown"),
        (dict(out_type='cls_token'), 'middle_cls_token=True too'),
        (dict(middle_cls_token=True), 'rope=False'),
        (dict(img_size=4), 'img_size=4 is smaller than one patch'),
        (dict(frozen_stages=4), 'frozen_stages=4'),
        (dict(arch=dict(MINI, embed_dim=6)), 'multiples of 4'),
    ],
)
def test_bad_arguments_are_refused_when_building(kwargs, message):
    with pytest.raises(ValueError, match=message):
        mini(**kwargs)


def test_an_image_smaller_than_a_patch_is_padded_to_one():
    model = mini().eval()
    image = torch.randn(1, 3, 7, 32)
    for got, want in zip(model(image), model(torch.nn.functional.pad(image, (0, 0, 0, 1))), strict=True):
        torch.testing.assert_close(got, want)


def test_bfloat16_autocast_keeps_the_residual_in_float32(device):
    model = mini(out_type='residual', out_norm=False)
    image = torch.randn(1, 3, 32, 32)
    with torch.autocast(device, torch.bfloat16):
        maps = model(image)
    assert all(m.dtype == torch.float32 for m in maps)
    for output, exact in zip(maps, model(image), strict=True):
        torch.testing.assert_close(output, exact, atol=0.1, rtol=0.1)
