"""VMamba, both generations: arguments, outputs, gradients, freezing, layer depths, search."""

import json

import pytest
import torch

from mmlocalmamba.directions import CROSS_SCAN
from mmlocalmamba.models import LocalVMamba, VMamba
from mmlocalmamba.search import probabilities, search_mixers, set_num_sampled

SIZES = dict(dims=(8, 16, 16, 24), depths=(1, 2, 1, 1))
VANILLA, V2 = dict(SIZES, kind='vanilla', ssm_ratio=2.0), dict(SIZES, kind='v2', ssm_ratio=1.0)
WINDOWS = [['h', 'w2_flip'], ['v'], ['w7', 'v_flip', 'h'], ['w2'], ['h', 'h_flip']]


@pytest.fixture(params=[VANILLA, V2], ids=['vanilla', 'v2'])
def mini(request):
    return lambda **kwargs: VMamba(**{**dict(arch=request.param), **kwargs})


@pytest.mark.parametrize('size', [(4, 4), (32, 32), (36, 68), (63, 37), (4, 60)])
def test_outputs_are_nchw_maps_at_strides_4_to_32(mini, size):
    maps = mini()(torch.randn(2, 3, *size))
    height, width = -(-size[0] // 4), -(-size[1] // 4)
    for output, dim in zip(maps, SIZES['dims'], strict=True):
        assert output.shape == (2, dim, height, width)
        assert output.is_contiguous()
        height, width = -(-height // 2), -(-width // 2)


@pytest.mark.parametrize(
    'kwargs', [{}, dict(directions=WINDOWS), dict(directions=WINDOWS, attn=True, spatial_attn=True), dict(search=True)]
)
def test_every_parameter_gets_a_finite_gradient(mini, kwargs):
    model = mini(**kwargs)
    sum(m.square().mean() for m in model(torch.randn(2, 3, 36, 52))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_the_vanilla_kind_is_local_vmamba_with_other_directions_and_no_attention():
    model = VMamba(arch=VANILLA).eval()
    other = LocalVMamba(arch=dict(SIZES, directions=[CROSS_SCAN] * 5), attn=False).eval()
    other.load_state_dict(model.state_dict())
    image = torch.randn(1, 3, 40, 56)
    with torch.no_grad():
        for ours, theirs in zip(model(image), other(image), strict=True):
            assert torch.equal(ours, theirs)


def test_what_the_second_version_is_built_of():
    block = VMamba(arch=V2).stages[0].blocks[0]
    assert block.mixer.in_proj.weight.shape == (8, 8)
    assert block.mixer.conv.bias is None
    assert block.mixer.A_log.shape == (4, 8, 1)
    assert block.mlp.fc1.weight.shape == (32, 8)
    assert VMamba(arch=dict(V2, ssm_ratio=2.0), d_state=3).stages[0].blocks[0].mixer.A_log.shape == (4, 16, 3)


def test_directions_come_from_either_place(mini, tmp_path):
    (tmp_path / 'directions.json').write_text(json.dumps(WINDOWS))
    for model in (mini(directions=WINDOWS), mini(directions=str(tmp_path / 'directions.json'))):
        assert model.directions == tuple(map(tuple, WINDOWS))
    assert VMamba(arch=dict(V2, directions=WINDOWS)).directions == tuple(map(tuple, WINDOWS))
    assert mini().directions == (CROSS_SCAN,) * 5
    with pytest.raises(ValueError, match='exclude each other'):
        VMamba(arch=dict(V2, directions=WINDOWS), directions=WINDOWS)


@pytest.mark.parametrize('out_indices', [(0,), (1, 3), (-1,)])
def test_out_indices_choose_the_same_maps(mini, out_indices):
    full, part = mini().eval(), mini(out_indices=out_indices).eval()
    part.load_state_dict(full.state_dict())
    image = torch.randn(1, 3, 32, 48)
    with torch.no_grad():
        expected = full(image)
        for index, output in zip(out_indices, part(image), strict=True):
            torch.testing.assert_close(output, expected[index])


def test_checkpointing_changes_no_gradient(mini):
    plain, saving = mini(), mini(with_cp=True)
    saving.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 32, 32)
    for model in (plain, saving):
        sum(m.square().sum() for m in model(image)).backward()
    for (name, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


@pytest.mark.parametrize('frozen', [-1, 0, 2, 4])
def test_frozen_stages(mini, frozen):
    model = mini(frozen_stages=frozen, drop_path_rate=0.5).train()
    assert all(p.requires_grad for p in model.patch_embed.parameters()) == (frozen < 0)
    for i, stage in enumerate(model.stages):
        assert {p.requires_grad for p in stage.blocks.parameters()} == {i >= frozen}
        assert stage.training == (i >= frozen)


def test_layer_depth_of_every_parameter(mini):
    model = mini()
    depth = {name: model.get_layer_depth(f'backbone.{name}', 'backbone.') for name, _ in model.named_parameters()}
    assert {layers for _, layers in depth.values()} == {7}
    for name, (layer, _) in depth.items():
        part, stage, kind, *rest = *name.split('.'), ''
        if part == 'patch_embed':
            wanted = 0
        elif part == 'stages':
            wanted = [1, 3, 4, 5][int(stage)] if kind == 'downsample' else [1, 2, 4, 5][int(stage)] + int(rest[0])
        else:
            wanted = 6
        assert layer == wanted, name


def test_a_checkpoint_round_trips(mini, tmp_path):
    source = mini(directions=WINDOWS, attn=True)
    torch.save(dict(state_dict=source.state_dict()), tmp_path / 'weights.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'weights.pth'))
    target = mini(directions=WINDOWS, attn=True, init_cfg=init_cfg)
    target.init_weights()
    for (name, a), b in zip(source.state_dict().items(), target.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize('num_sampled', [None, 2])
def test_the_search_reaches_every_alpha(mini, num_sampled):
    model = mini(search=True, attn=True)
    set_num_sampled(model, num_sampled)
    model(torch.randn(2, 3, 32, 32))[-1].square().sum().backward()
    assert [list(block) for block in probabilities(model)] == [list(CROSS_SCAN)] * 5
    assert all((mixer.merge.alpha.grad != 0).all() for mixer in search_mixers(model).values())


@pytest.mark.parametrize(
    ('arch', 'parameters'),
    [
        ('tiny', 22.89),
        ('small', 44.42),
        ('base', 76.25),
        ('tiny_s1l8', 30.25),
        ('small_s2l15', 50.15),
        ('base_s2l15', 88.56),
        ('tiny_s2l5', 30.71),
        ('small_s1l20', 49.01),
        ('base_s1l20', 86.61),
    ],
)
def test_published_sizes(arch, parameters):
    """With their heads; the papers say 22, 44, 75 (without), 30, 50, 89, 31, 49 and 87 million."""
    with torch.device('meta'):
        model = VMamba(arch=arch, out_indices=(3,), out_norm=False)
    dim = model.dims[-1]
    total = sum(p.numel() for p in model.parameters()) + 2 * dim + (dim + 1) * 1000
    assert total / 1e6 == pytest.approx(parameters, abs=0.005)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(arch='huge'), "no arch 'huge'.*tiny_s1l8"),
        (dict(arch=dict(dims=[8], depths=[1], kind='v2')), r"exactly the keys .*, and may have \['directions'\]"),
        (dict(arch=dict(V2, kind='v3')), "kind='v3' is unknown: choose one of \\['v2', 'vanilla'\\]"),
        (dict(arch=dict(V2, dims=[8])), 'one number per stage'),
        (dict(arch=V2, directions=[['h']]), 'directions for 1 blocks.*has 5'),
        (dict(arch=V2, out_indices=(4,)), r'out_indices=\(4,\).*0 to 3'),
        (dict(arch=V2, frozen_stages=5), 'frozen_stages=5'),
        (dict(arch=V2, spatial_attn=True), 'spatial_attn=True'),
    ],
)
def test_bad_arguments_are_refused_when_building(kwargs, message):
    with pytest.raises(ValueError, match=message):
        VMamba(**kwargs)


@pytest.mark.parametrize(
    ('shape', 'message'), [((1, 3, 0, 64), '0 x 64 pixels'), ((1, 4, 32, 32), '4 channels.*in_channels=3')]
)
def test_bad_images_are_refused(mini, shape, message):
    with pytest.raises(ValueError, match=message):
        mini()(torch.zeros(shape))


def test_bfloat16_autocast_stays_near_float32(mini):
    model = mini().eval()
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        expected = model(image)
        with torch.autocast('cpu', torch.bfloat16):
            maps = model(image)
    for output, exact in zip(maps, expected, strict=True):
        torch.testing.assert_close(output.float(), exact, atol=0.15, rtol=0.1)
