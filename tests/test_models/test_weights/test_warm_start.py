"""Starting a backbone from one with other directions, without SCAttn, or with more blocks."""

import pytest
import torch

from mmlocalmamba.directions import CANDIDATES, CROSS_SCAN, published_directions
from mmlocalmamba.models import LocalVim, LocalVMamba, VMamba
from mmlocalmamba.models.weights.loading import load_backbone
from mmlocalmamba.models.weights.warm_start import evenly

from .backwards import first_vmamba, published_vmamba

SIZES = dict(dims=(8, 16), depths=(1, 3))
WINDOWS = [('h', 'w7_flip', 'v_flip', 'w2'), ('v', 'w2_flip'), ('h_flip', 'w7'), ('v', 'h')]
OUT = dict(out_indices=(0, 1))


def vmamba(kind='vanilla', **kwargs):
    return randomise(VMamba(**OUT, arch=dict(SIZES, kind=kind, ssm_ratio=2.0), **kwargs))


def local_vmamba(depths=(1, 3), directions=None, **kwargs):
    directions = [CROSS_SCAN] * sum(depths) if directions is None else directions
    return LocalVMamba(**OUT, arch=dict(dims=(8, 16), depths=depths, directions=directions), **kwargs)


def randomise(model):
    for name, parameter in model.named_parameters():
        parameter.data = torch.randn_like(parameter) * (0.02 if 'proj' in name else 0.5)
    return model.eval()


def start(target, state, tmp_path, **settings):
    torch.save(dict(model=state), tmp_path / 'weights.pth')
    target.init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'weights.pth'), warm_start=True, **settings)
    target.init_weights()
    return target.eval()


def assert_same_outputs(a, b):
    image = torch.randn(2, 3, 36, 52)
    with torch.no_grad():
        for x, y in zip(a(image), b(image), strict=True):
            assert (x - y).abs().max() <= 1e-5
            assert x.abs().max() > 0.1


@pytest.mark.parametrize('rename', [None, published_vmamba, first_vmamba])
@pytest.mark.parametrize('spatial', [False, True])
def test_with_equal_directions_it_computes_what_vmamba_does(rename, spatial, tmp_path):
    source = vmamba()
    state = source.state_dict()
    if rename is not None:
        state = published_vmamba(state, vanilla=True)
        state = first_vmamba(state) if rename is first_vmamba else state
    target = start(local_vmamba(spatial_attn=spatial), state, tmp_path)
    assert_same_outputs(source, target)


def test_constant_gates_can_be_trained(tmp_path):
    target = start(local_vmamba(), vmamba().state_dict(), tmp_path)
    sum(m.square().mean() for m in target(torch.randn(1, 3, 32, 32))).backward()
    attn = target.stages[1].blocks[0].mixer.merge.attn
    assert not attn.channel_select.weight.any()
    assert attn.channel_select.weight.grad.any()


def test_attention_that_the_source_has_is_taken_and_what_the_target_lacks_is_left_out(tmp_path):
    source = randomise(local_vmamba())
    known = dict(source_directions=[CROSS_SCAN] * 4)
    assert_same_outputs(source, start(local_vmamba(), source.state_dict(), tmp_path, **known))
    target = start(vmamba(), source.state_dict(), tmp_path, **known)
    plain = local_vmamba(attn=False).eval()
    plain.load_state_dict(target.state_dict())
    assert_same_outputs(target, plain)


def test_directions_start_from_the_nearest_ones(tmp_path):
    source = vmamba()
    target = start(local_vmamba(directions=WINDOWS), source.state_dict(), tmp_path)
    wanted = [('h', 'h_flip', 'v_flip', 'h'), ('v', 'h_flip'), ('h_flip', 'h'), ('v', 'h')]
    blocks = ((model.stages[0].blocks[0], *model.stages[1].blocks) for model in (target, source))
    for ours, theirs, names in zip(*blocks, wanted, strict=True):
        places = [CROSS_SCAN.index(name) for name in names]
        for parameter in ('A_log', 'dt_proj_weight', 'dt_proj_bias'):
            assert torch.equal(getattr(ours.mixer, parameter), getattr(theirs.mixer, parameter)[places])
        # The gates are 1/2, so what they gate is doubled, in D and in the rows that give C.
        assert torch.equal(ours.mixer.D, 2 * theirs.mixer.D[places])
        projections = theirs.mixer.x_proj_weight[places].clone()
        projections[:, -16:] *= 2
        assert torch.equal(ours.mixer.x_proj_weight, projections)


def test_blocks_of_a_deeper_model_are_taken_at_even_distances(tmp_path):
    source = randomise(local_vmamba(depths=(3, 5)))
    target = start(local_vmamba(), source.state_dict(), tmp_path, source_directions=[CROSS_SCAN] * 8)
    for stage, chosen in enumerate(((0,), (0, 2, 4))):
        for ours, place in zip(target.stages[stage].blocks, chosen, strict=True):
            theirs = source.stages[stage].blocks[place]
            for (name, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
                assert torch.equal(a, b), name


@pytest.mark.parametrize('available', [3, 9, 10, 27])
@pytest.mark.parametrize('count', [2, 3])
def test_even_distances_include_both_ends(available, count):
    chosen = evenly(available, count)
    assert (chosen[0], chosen[-1], len(set(chosen))) == (0, available - 1, count)
    assert evenly(available, available) == list(range(available))


def small(name):
    depth = {'local_vmamba_tiny': 9, 'local_vmamba_small': 27}[name]
    arch = dict(dims=(4, 4, 8, 8), depths=(2, 2, depth, 2), directions=published_directions(name))
    return LocalVMamba(arch=arch, d_state=2)


def test_local_vmamba_t_starts_from_s_whose_directions_are_known(tmp_path, capsys):
    source, target = randomise(small('local_vmamba_small')), small('local_vmamba_tiny')
    start(target, published_vmamba(source.state_dict(), vanilla=True), tmp_path)
    chosen = source.stages[2].blocks[26].mixer
    last = target.stages[2].blocks[8].mixer
    for k, name in enumerate(last.directions):
        if name in chosen.directions:
            assert torch.equal(last.A_log[k], chosen.A_log[chosen.directions.index(name)])
    output = ' '.join(capsys.readouterr().out.split())
    assert f'{len(target.state_dict())}/{len(target.state_dict())} backbone tensors loaded' in output
    assert 'stages.2.blocks.2 from stages.2.blocks.7: ' in output
    assert 'SCAttn taken' in output


def test_the_log_says_what_each_direction_starts_from(tmp_path, capsys):
    start(local_vmamba(directions=WINDOWS), vmamba().state_dict(), tmp_path)
    output = capsys.readouterr().out
    assert 'Warm start of the LocalVMamba' in output
    assert (
        'stages.1.blocks.0 from stages.1.blocks.0: v from v, w2_flip from h_flip; SCAttn with constant gates' in output
    )


@pytest.mark.parametrize('kind', ['vanilla', 'v2'])
def test_windows_in_vmamba_start_from_its_published_weights(kind, tmp_path):
    source = vmamba(kind)
    state = published_vmamba(source.state_dict(), vanilla=kind == 'vanilla')
    assert_same_outputs(source, start(vmamba(kind, attn=True), state, tmp_path))
    start(vmamba(kind, directions=WINDOWS, attn=True), state, tmp_path)


def test_a_supernet_keeps_its_alpha(tmp_path):
    target = vmamba('v2', directions=[CANDIDATES] * 4, search=True)
    alphas = [block.mixer.merge.alpha.detach().clone() for stage in target.stages for block in stage.blocks]
    source = vmamba('v2')
    start(target, source.state_dict(), tmp_path)
    blocks = [block for stage in target.stages for block in stage.blocks]
    assert all(torch.equal(block.mixer.merge.alpha, alpha) for block, alpha in zip(blocks, alphas, strict=True))
    assert torch.equal(blocks[0].mixer.A_log[0], source.stages[0].blocks[0].mixer.A_log[0])


@pytest.mark.parametrize(
    ('source', 'target', 'message'),
    [
        (
            lambda: local_vmamba(),
            local_vmamba,
            'SCAttn and 4 blocks, so its directions are not known.*source_directions=',
        ),
        (
            lambda: local_vmamba(attn=False, directions=[('h', 'v')] * 4),
            local_vmamba,
            r'stages\.0\.blocks\.0\.mixer of .* has 2 directions, not h, v, h_flip, v_flip',
        ),
        (lambda: vmamba(), lambda: local_vmamba(depths=(1, 4)), 'stage 1 of .* has 3 blocks, fewer than the 4'),
        (lambda: vmamba(search=True), local_vmamba, 'supernet of the direction search: export'),
        (lambda: vmamba('v2'), local_vmamba, 'does not fit this LocalVMamba.*missing'),
        (lambda: LocalVim('micro', out_indices=(3,)), local_vmamba, 'for LocalVMamba and VMamba'),
        (lambda: vmamba(), lambda: LocalVim('micro', out_indices=(3,)), 'for LocalVMamba and VMamba'),
    ],
    ids=['unknown directions', 'other directions', 'too shallow', 'supernet', 'another kind', 'from plain', 'to plain'],
)
def test_what_cannot_be_started_from_is_refused(source, target, message, tmp_path):
    torch.save(source().state_dict(), tmp_path / 'weights.pth')
    with pytest.raises(ValueError, match=message):
        load_backbone(target(), tmp_path / 'weights.pth', warm_start=True)


def test_without_the_switch_other_directions_are_refused(tmp_path):
    torch.save(vmamba().state_dict(), tmp_path / 'weights.pth')
    with pytest.raises(ValueError, match='does not fit this LocalVMamba'):
        load_backbone(local_vmamba(), tmp_path / 'weights.pth')


def test_a_misspelt_setting_is_refused():
    target = local_vmamba(init_cfg=dict(type='Pretrained', checkpoint='x.pth', warmstart=True))
    with pytest.raises(ValueError, match=r"unknown settings \['warmstart'\]: want some of .*'warm_start'"):
        target.init_weights()
