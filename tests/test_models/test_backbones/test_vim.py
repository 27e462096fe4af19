"""Vim: arguments, outputs, gradients, freezing, layer depths."""

import math

import pytest
import torch
import torch.nn.functional as F

from mmlocalmamba.models import LocalVim, Vim

MINI = dict(embed_dim=16, depth=3)


def mini(**kwargs):
    return Vim(**{**dict(arch=MINI, img_size=32, patch_size=8, d_state=4, out_indices=(0, 2)), **kwargs})


@pytest.mark.parametrize('size', [(8, 8), (32, 32), (40, 24), (9, 61)])
@pytest.mark.parametrize('out_type', ['mixer', 'residual'])
def test_outputs_are_nchw_maps_without_the_class_token(size, out_type):
    maps = mini(out_type=out_type)(torch.randn(2, 3, *size))
    assert [m.shape for m in maps] == [(2, 16, -(-size[0] // 8), -(-size[1] // 8))] * 2
    assert all(m.is_contiguous() for m in maps)


def test_class_token_output_is_a_vector():
    (vector,) = mini(out_type='cls_token', out_indices=(-1,))(torch.randn(2, 3, 32, 40))
    assert vector.shape == (2, 16)


@pytest.mark.parametrize('out_type', ['mixer', 'cls_token'])
def test_every_parameter_gets_a_finite_gradient(out_type):
    model = mini(out_type=out_type)
    sum(m.square().mean() for m in model(torch.randn(2, 3, 40, 24))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_the_map_holds_the_patches_in_their_places():
    """Without blocks' outputs in it, the residual stream is what the patches were embedded as."""
    model = mini(out_type='residual', out_indices=(0,), out_norm=False).eval()
    torch.nn.init.zeros_(model.layers[0].mixer.out_proj.weight)
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        (output,) = model(image)
        expected = model.patch_embed(image).flatten(1, 2) + model.pos_embed
    torch.testing.assert_close(output.flatten(2).transpose(1, 2), expected)


def test_on_an_even_number_of_patches_it_is_local_vim_with_two_directions():
    model = mini().eval()
    arch = dict(MINI, directions=[['h', 'h_flip']] * 3)
    other = LocalVim(
        arch=arch,
        img_size=32,
        patch_size=8,
        d_state=4,
        out_indices=(0, 2),
        rope=False,
        middle_cls_token=True,
        attn=False,
    ).eval()
    halved = {name: v / 2 if name.endswith('out_proj.weight') else v for name, v in model.state_dict().items()}
    other.load_state_dict(halved)
    image = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        for ours, theirs in zip(model(image), other(image), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_the_backward_direction_reads_the_flipped_sequence():
    """On an odd number of patches too, where the class token is not in the middle of the flipped sequence."""
    mixer = mini().layers[0].mixer
    mixer.conv_weight.data[1], mixer.conv_bias.data[1] = mixer.conv_weight.data[0], mixer.conv_bias.data[0]
    for name in ('x_proj_weight', 'dt_proj_weight', 'dt_proj_bias'):
        getattr(mixer, name).data[1] = getattr(mixer, name).data[0]
    x = torch.randn(1, 10, 16)
    with torch.no_grad():
        torch.testing.assert_close(mixer(x, 1, 10).flip(1), mixer(x.flip(1), 1, 10))


def test_blocks_after_the_last_output_are_not_built():
    assert len(mini(out_indices=(0, 1)).layers) == 2


def test_checkpointing_changes_no_gradient():
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
    for table in (model.pos_embed, model.cls_token, model.cls_pos_embed, model.patch_embed.proj.weight):
        assert table.requires_grad == (frozen < 0)
    for i, layer in enumerate(model.layers):
        assert {p.requires_grad for p in layer.parameters()} == {i >= frozen}


def test_layer_depth_of_every_parameter():
    model = mini()
    depth = {name: model.get_layer_depth(f'backbone.{name}', 'backbone.') for name, _ in model.named_parameters()}
    assert {layers for _, layers in depth.values()} == {5}
    assert {depth[n][0] for n in ('pos_embed', 'cls_token', 'cls_pos_embed', 'patch_embed.proj.bias')} == {0}
    assert depth['layers.2.mixer.D'][0] == 3
    assert depth['norm2.weight'][0] == 4


def test_drop_path_starts_at_the_second_block_and_reaches_the_output():
    model = mini(drop_path_rate=0.2)
    rates = [layer.drop_path.drop_prob for layer in model.layers] + [model.out_drop_path.drop_prob]
    assert rates == pytest.approx([0.0, 0.0, 0.1, 0.2])


def test_position_tables_are_resized_when_loading_and_the_class_token_keeps_its_own():
    source, target = mini(), mini(img_size=64)
    target.load_state_dict(source.state_dict())
    assert target.pos_embed.shape == (1, 64, 16)
    assert torch.equal(target.cls_pos_embed, source.cls_pos_embed)


def test_initial_step_sizes_are_mambas_forwards_and_start_at_softplus_of_0_backwards():
    steps = F.softplus(mini(arch=dict(embed_dim=192, depth=1), out_indices=(0,)).layers[0].mixer.dt_proj_bias.detach())
    assert 0.99e-3 <= steps[0].min() <= steps[0].max() <= 0.101
    assert torch.equal(steps[1], torch.full_like(steps[1], math.log(2)))


@pytest.mark.parametrize(('arch', 'parameters'), [('tiny', 7.148), ('small', 25.797), ('base', 97.598)])
def test_published_sizes(arch, parameters):
    """With their heads; the paper says 7, 26 and 98 million."""
    with torch.device('meta'):
        model = Vim(arch=arch, out_indices=(23,), out_norm=False)
    total = sum(p.numel() for p in model.parameters()) + model.dim + 1000 * (model.dim + 1)
    assert total / 1e6 == pytest.approx(parameters, abs=0.001)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(arch='huge'), "Vim has no arch 'huge'.*base.*small.*tiny"),
        (dict(arch=dict(MINI, directions=[['h']] * 3)), 'exactly the keys'),
        (dict(out_indices=(3,)), r'out_indices=\(3,\).*0 to 2'),
        (dict(out_type='tokens'), "out_type='tokens' is unknown"),
        (dict(img_size=4), 'img_size=4 is smaller than one patch'),
        (dict(frozen_stages=4), 'frozen_stages=4'),
    ],
)
def test_bad_arguments_are_refused_when_building(kwargs, message):
    with pytest.raises(ValueError, match=message):
        mini(**kwargs)


def test_bfloat16_autocast_keeps_the_residual_in_float32():
    model = mini(out_type='residual', out_norm=False)
    image = torch.randn(1, 3, 32, 32)
    with torch.autocast('cpu', torch.bfloat16):
        maps = model(image)
    assert all(m.dtype == torch.float32 for m in maps)
    for output, exact in zip(maps, model(image), strict=True):
        torch.testing.assert_close(output, exact, atol=0.1, rtol=0.1)
