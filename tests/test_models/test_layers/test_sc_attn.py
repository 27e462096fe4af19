"""SCAttn against its formula."""

import pytest
import torch
import torch.nn.functional as F

from mmlocalmamba.models.layers.merge import DirectionMerge, DirectionMixture
from mmlocalmamba.models.layers.sc_attn import SCAttn

pytestmark = pytest.mark.usefixtures('on_each_device')


def expected_output(attn, x):
    n = F.layer_norm(x, x.shape[-1:], attn.norm.weight, attn.norm.bias)
    g = F.gelu(attn.global_reduce(n.mean(-2, keepdim=True)))
    out = x * torch.sigmoid(attn.channel_select(g))
    if attn.spatial_select is not None:
        local = F.gelu(attn.local_reduce(n))
        out = out * torch.sigmoid(attn.spatial_select(torch.cat([local, g.expand_as(local)], -1)))
    return out


@pytest.fixture(params=[False, True], ids=['channel', 'spatial'])
def attn(request):
    torch.manual_seed(0)
    module = SCAttn(24, spatial=request.param).double()
    torch.nn.init.normal_(module.norm.weight)
    torch.nn.init.normal_(module.norm.bias)
    return module


@pytest.mark.parametrize('shape', [(2, 5, 24), (2, 3, 1, 24)])
def test_values_and_gradients_follow_the_formula(attn, shape):
    x = (3 * torch.randn(shape, dtype=torch.float64) + 1).requires_grad_()
    y, expected = attn(x), expected_output(attn, x)
    torch.testing.assert_close(y, expected)
    inputs = [x, *attn.parameters()]
    weight = torch.randn_like(y)
    grads = torch.autograd.grad((y * weight).sum(), inputs)
    for name, a, b in zip(
        ['x', *dict(attn.named_parameters())],
        grads,
        torch.autograd.grad((expected * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b, msg=name)


@pytest.fixture(params=[dict(), dict(spatial_attn=True), dict(attn=False)], ids=['channel', 'spatial', 'no attention'])
def merge(request):
    return DirectionMerge(24, **request.param).double()


@pytest.fixture
def y():
    return torch.randn(2, 3, 5, 24, dtype=torch.float64)


@pytest.fixture
def z():
    return torch.randn(2, 5, 24, dtype=torch.float64)


def gated_sum(merge, y):
    return sum(y[:, k] if merge.attn is None else merge.attn(y[:, k]) for k in range(y.shape[1]))


def test_without_a_norm_z_gates_each_direction_before_the_sum(merge, y, z):
    torch.testing.assert_close(merge(y, z), gated_sum(merge, y * F.silu(z)[:, None]))


def test_with_a_norm_z_gates_the_normalised_sum(merge, y, z):
    norm = torch.nn.LayerNorm(24).double()
    torch.nn.init.normal_(norm.weight)
    torch.testing.assert_close(merge(y, z, norm), norm(gated_sum(merge, y)) * F.silu(z))


def test_mixture_weighs_normalised_branches_by_softmax(y, z):
    mixture = DirectionMixture(24, 3).double()
    torch.nn.init.normal_(mixture.alpha)
    weights = mixture.alpha.softmax(0)
    gated = y * F.silu(z)[:, None]
    expected = sum(weights[k] * F.layer_norm(mixture.attn(gated[:, k]), (24,)) for k in range(3))
    torch.testing.assert_close(mixture(y, z), expected)
