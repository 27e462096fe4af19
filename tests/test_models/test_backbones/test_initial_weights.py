"""The initial weights by their moments: those of the published code, and Mamba's."""

import math

import pytest
import torch
import torch.nn.functional as F

from mmlocalmamba.models import LocalVim, LocalVMamba

FOUR = ('h', 'v', 'w2', 'w7_flip')
DIM, DEPTH = 192, 2
RANK = DIM // 16


def vim(**kwargs):
    arch = dict(embed_dim=DIM, depth=DEPTH, directions=[FOUR] * DEPTH)
    return LocalVim(arch=arch, out_indices=(DEPTH - 1,), spatial_attn=True, **kwargs)


def vmamba():
    arch = dict(dims=(96, 192), depths=(1, 1), directions=[FOUR] * 2)
    return LocalVMamba(arch=arch, out_indices=(0, 1), spatial_attn=True)


def parameters(model, *endings):
    found = {name: value.detach() for name, value in model.named_parameters() if name.endswith(endings)}
    assert found, endings
    return found.items()


def assert_normal(value, std, name):
    """Check the moments of a normal distribution, and the share of values beyond one and two standard deviations."""
    error = value.numel() ** -0.5
    assert value.mean().abs() <= 4 * std * error, name
    assert value.std().item() == pytest.approx(std, rel=max(4 * error, 0.01)), name
    for beyond, share in ((1, 0.3173), (2, 0.0455)):
        found = (value.abs() > beyond * std).float().mean().item()
        assert found == pytest.approx(share, abs=4 * math.sqrt(share) * error), name
    assert value.abs().max() <= 2, name


LINEAR = (
    'in_proj.weight',
    'attn.global_reduce.weight',
    'attn.channel_select.weight',
    'attn.local_reduce.weight',
    'attn.spatial_select.weight',
)
BIASES = (
    'attn.global_reduce.bias',
    'attn.channel_select.bias',
    'attn.local_reduce.bias',
    'attn.spatial_select.bias',
)


def test_local_vim_starts_with_the_published_distribution():
    model = vim()
    for name, value in parameters(model, *LINEAR, 'x_proj_weight', 'dt_proj_weight'):
        assert_normal(value, 0.02, name)
    for name, value in parameters(model, *BIASES, 'dt_proj_bias'):
        assert not value.any(), name
    for _, value in parameters(model, 'dt_proj_bias'):
        assert F.softplus(value).mean().item() == pytest.approx(math.log(2))


def test_local_vmamba_starts_with_the_published_distribution():
    model = vmamba()
    for name, value in parameters(model, *LINEAR, 'out_proj.weight', 'downsample.reduction.weight'):
        assert_normal(value, 0.02, name)
    for name, value in parameters(model, *BIASES):
        assert not value.any(), name
    assert_mamba_steps(model, rank=6, first='stages.0.')
    assert_mamba_steps(model, rank=12, first='stages.1.')


def assert_uniform(value, bound, name):
    assert value.abs().max() <= bound, name
    assert value.std().item() == pytest.approx(bound / 3**0.5, rel=0.05), name
    assert value.mean().abs() <= 4 * bound * value.numel() ** -0.5, name


def assert_mamba_steps(model, rank, first=''):
    for name, value in parameters(model, 'dt_proj_weight'):
        if name.startswith(first):
            assert_uniform(value, rank**-0.5, name)
    for name, value in parameters(model, 'dt_proj_bias'):
        steps = F.softplus(value)
        assert 0.99e-3 <= steps.min() <= 1.1e-3, name
        assert 0.09 <= steps.max() <= 0.101, name
        assert steps.log().mean().item() == pytest.approx(math.log(0.01), abs=0.2), name


def test_mambas_distribution_stays_one_argument_away():
    model = vim(init='mamba')
    for name, value in parameters(model, 'in_proj.weight'):
        assert_uniform(value, DIM**-0.5, name)
    for name, value in parameters(model, 'x_proj_weight', 'attn.global_reduce.weight'):
        assert_uniform(value, (2 * DIM) ** -0.5, name)
    for name, value in parameters(model, *BIASES[:2]):
        assert value.any(), name
    assert_mamba_steps(model, RANK)


@pytest.mark.parametrize('init', ['published', 'mamba'])
def test_what_both_distributions_of_local_vim_share(init):
    model = vim(init=init)
    for name, value in parameters(model, 'out_proj.weight'):
        assert_uniform(value, (2 * DIM) ** -0.5 / DEPTH**0.5, name)
    for name, value in parameters(model, 'A_log'):
        assert torch.equal(value, torch.arange(1, 17).float().log().expand_as(value)), name
    for name, value in parameters(model, '.D', 'norm.weight', 'norm1.weight'):
        assert (value == 1).all(), name
    for name, value in parameters(model, 'conv_weight'):
        assert_uniform(value, 0.5, name)
    assert_normal(model.pos_embed.detach(), 0.02, 'pos_embed')


def test_an_unknown_distribution_is_refused():
    with pytest.raises(ValueError, match=r"init='xavier' is unknown: choose one of \('published', 'mamba'\)"):
        vim(init='xavier')
