"""LocalVMamba: arguments, outputs, gradients, freezing, layer depths."""

import copy

import pytest
import torch

from mmlocalmamba.models import LocalVMamba

MINI = dict(
    dims=(8, 16, 16, 24), depths=(1, 1, 1, 1), directions=[['h', 'w2_flip'], ['v'], ['w7', 'v_flip', 'h'], ['w2']]
)

pytestmark = pytest.mark.usefixtures('on_each_device')


def mini(**kwargs):
    return LocalVMamba(arch=copy.deepcopy(MINI), d_state=4, **kwargs)


@pytest.mark.parametrize('size', [(4, 4), (1, 1), (3, 2), (32, 32), (36, 68), (63, 37), (4, 60)])
def test_outputs_are_nchw_maps_at_strides_4_to_32(size):
    maps = mini()(torch.randn(2, 3, *size))
    height, width = -(-size[0] // 4), -(-size[1] // 4)
    for output, dim in zip(maps, MINI['dims'], strict=True):
        assert output.shape == (2, dim, height, width)
        assert output.is_contiguous()
        height, width = -(-height // 2), -(-width // 2)


def test_every_parameter_gets_a_finite_gradient():
    model = mini(spatial_attn=True, drop_path_rate=0.0)
    sum(m.square().mean() for m in model(torch.randn(2, 3, 36, 52))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize('out_indices', [(0,), (1, 3), (0, 1, 2), (-1,)])
def test_out_indices_choose_the_same_maps(out_indices):
    torch.manual_seed(0)
    full = mini().eval()
    part = mini(out_indices=out_indices).eval()
    part.load_state_dict(full.state_dict(), strict=False)
    image = torch.randn(1, 3, 32, 48)
    with torch.no_grad():
        expected = full(image)
        for index, output in zip(out_indices, part(image), strict=True):
            torch.testing.assert_close(output, expected[index])


def test_stages_after_the_last_output_are_not_built():
    model = mini(out_indices=(0, 1))
    assert len(model.stages) == 2
    assert model.stages[-1].downsample is None
    assert len(model.directions) == 2


def test_checkpointing_changes_neither_values_nor_gradients():
    torch.manual_seed(0)
    plain, saving = mini(), mini(with_cp=True)
    saving.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 32, 32)
    outputs = [model(image) for model in (plain, saving)]
    for _model, maps in zip((plain, saving), outputs, strict=True):
        sum(m.square().sum() for m in maps).backward()
    for a, b in zip(*outputs, strict=True):
        torch.testing.assert_close(a, b)
    for (name, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


@pytest.mark.parametrize('frozen', [-1, 0, 2, 4])
def test_frozen_stages(frozen):
    model = mini(frozen_stages=frozen, drop_path_rate=0.5).train()
    assert all(p.requires_grad for p in model.patch_embed.parameters()) == (frozen < 0)
    for i, stage in enumerate(model.stages):
        trainable = {p.requires_grad for p in stage.blocks.parameters()}
        assert trainable == {i >= frozen}
        assert stage.training == (i >= frozen)


def test_drop_path_rises_linearly_and_is_off_in_evaluation():
    model = mini(drop_path_rate=0.3)
    rates = [stage.blocks[0].drop_path.drop_prob for stage in model.stages]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3])
    model.eval()
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(image), model(image))


def test_layer_depth_of_every_parameter():
    model = LocalVMamba(arch=dict(MINI, depths=(1, 2, 1, 1), directions=[['h']] * 5))
    depth = {name: model.get_layer_depth(f'backbone.{name}', 'backbone.') for name, _ in model.named_parameters()}
    assert {layers for _, layers in depth.values()} == {7}
    assert depth['patch_embed.proj.weight'][0] == depth['patch_embed.norm.bias'][0] == 0
    assert depth['stages.0.blocks.0.mixer.A_log'][0] == depth['stages.0.downsample.norm.weight'][0] == 1
    assert depth['stages.1.blocks.1.norm.weight'][0] == depth['stages.1.downsample.reduction.weight'][0] == 3
    assert depth['stages.3.blocks.0.norm.weight'][0] == 5
    assert depth['norm0.weight'][0] == depth['norm3.bias'][0] == 6
    assert model.get_layer_depth('neck.conv.weight', 'backbone.') == (6, 7)


@pytest.mark.parametrize(('arch', 'parameters'), [('tiny', 25.53), ('small', 49.75)])
def test_published_sizes(arch, parameters):
    with torch.device('meta'):
        model = LocalVMamba(arch=arch, out_indices=(3,), out_norm=False)
    head = 2 * 768 + 769 * 1000
    assert (sum(p.numel() for p in model.parameters()) + head) / 1e6 == pytest.approx(parameters, abs=0.005)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(arch='huge'), "no arch 'huge'.*micro.*small.*tiny"),
        (dict(arch=dict(dims=[8], depths=[1])), 'exactly the keys'),
        (dict(arch=dict(dims=[8], depths=[1, 1], directions=[['h']] * 2)), 'one number per stage'),
        (dict(arch=dict(dims=[8], depths=[2], directions=[['h']]), out_indices=(0,)), 'directions for 1 blocks.*has 2'),
        (dict(arch=dict(dims=[8], depths=[1], directions=[['x3']]), out_indices=(0,)), "unknown scan direction 'x3'"),
        (dict(arch=dict(dims=[8], depths=[1], directions=[[]]), out_indices=(0,)), 'block 0 has no scan direction'),
        (dict(arch=dict(dims=[8], depths=[1], directions=[['h', 'h']]), out_indices=(0,)), 'repeats a scan direction'),
        (dict(arch='micro', out_indices=(4,)), r'out_indices=\(4,\).*0 to 3'),
        (dict(arch='micro', out_indices=()), 'at least one'),
        (dict(arch='micro', frozen_stages=5), 'frozen_stages=5'),
        (dict(arch='micro', drop_path_rate=1.5), 'drop_path_rate=1.5'),
        (dict(arch='micro', spatial_attn=True, attn=False), 'spatial_attn=True'),
    ],
)
def test_bad_arguments_are_refused_when_building(kwargs, message):
    with pytest.raises(ValueError, match=message):
        LocalVMamba(**kwargs)


def test_unknown_arguments_are_errors():
    with pytest.raises(TypeError, match='ssm_d_state'):
        LocalVMamba(arch='micro', ssm_d_state=8)


def test_callers_arguments_are_not_written_into():
    arch, before = copy.deepcopy(MINI), copy.deepcopy(MINI)
    out_indices = [0, -1]
    LocalVMamba(arch=arch, out_indices=out_indices)
    assert arch == before
    assert out_indices == [0, -1]


def test_images_without_pixels_are_refused():
    with pytest.raises(ValueError, match='0 x 64 pixels'):
        mini()(torch.zeros(1, 3, 0, 64))


@pytest.mark.parametrize('dtype', [torch.uint8, torch.int64, torch.bool])
def test_images_of_whole_numbers_are_refused(dtype):
    with pytest.raises(ValueError, match=f'the image is {dtype}, want float32.*data preprocessor'):
        mini()(torch.zeros(1, 3, 32, 32, dtype=dtype))


def test_wrong_channels_are_refused():
    with pytest.raises(ValueError, match='4 channels.*in_channels=3'):
        mini()(torch.zeros(1, 4, 32, 32))


def test_bfloat16_autocast_keeps_the_scan_in_float32(device):
    model = mini()
    image = torch.randn(1, 3, 32, 32)
    with torch.autocast(device, torch.bfloat16):
        maps = model(image)
    expected = model(image)
    for output, exact in zip(maps, expected, strict=True):
        assert torch.isfinite(output).all()
        torch.testing.assert_close(output.float(), exact, atol=0.1, rtol=0.1)
