"""The supernet's mixture against a plain implementation of the published one, and the sampling of branches."""

import pytest
import torch
import torch.nn.functional as F

from mmlocalmamba.directions import CANDIDATES, scan_order
from mmlocalmamba.models.layers.merge import (
    DirectionMixture,
    Draw,
    inclusion_probabilities,
    systematic_sample,
)
from mmlocalmamba.models.layers.ss2d import SS2D
from mmlocalmamba.models.layers.vim_mixer import VimMixer
from mmlocalmamba.models.weights.published_names import local_vim_from_published, vmamba_from_published

pytestmark = pytest.mark.usefixtures('on_each_device')

DIM, INNER, RANK, STATES, SIZE = 16, 32, 1, 4, (5, 6)


def scan_one(u, x_proj, dt_weight, dt_bias, a_log, skip):
    """Scan one sequence u (B, L, D) step by step."""
    dt, b, c = (u @ x_proj.T).split([RANK, STATES, STATES], -1)
    dt = F.softplus(dt @ dt_weight.T + dt_bias)
    state, outputs = torch.zeros(len(u), u.shape[-1], STATES), []
    for i in range(u.shape[1]):
        state = torch.exp(dt[:, i, :, None] * -a_log.exp()) * state
        state = state + (dt[:, i] * u[:, i])[..., None] * b[:, i, None]
        outputs.append((state * c[:, i, None]).sum(-1) + skip * u[:, i])
    return torch.stack(outputs, 1)


def in_place(y, order):
    """Put scanned tokens back, dropping padding."""
    out = torch.empty(len(y), int(order.max()) + 1, y.shape[-1])
    out[:, order[order >= 0]] = y[:, order >= 0]
    return out


def gather(x, order):
    return F.pad(x, (0, 0, 0, 1))[:, order]  # -1 picks the row of zeros


def published_mix(branches, state, attn):
    """Gate each branch, normalise it without affine, and mix by softmax over the first axis of (8, 1, 1, 1)."""
    mixed = []
    for y in branches:
        n = F.layer_norm(y, (INNER,), state[attn + 'norm.weight'], state[attn + 'norm.bias']).mean(1, keepdim=True)
        g = F.gelu(F.linear(n, state[attn + 'global_reduce.weight'], state[attn + 'global_reduce.bias']))
        gate = torch.sigmoid(F.linear(g, state[attn + 'channel_select.weight'], state[attn + 'channel_select.bias']))
        mixed.append(F.layer_norm(y * gate, (INNER,)))
    return (torch.stack(mixed) * state['multi_scan.weights'].softmax(0)).sum(0)


def attn_state(prefix):
    shapes = {
        'norm.weight': (INNER,),
        'norm.bias': (INNER,),
        'global_reduce.weight': (INNER // 8, INNER),
        'global_reduce.bias': (INNER // 8,),
        'channel_select.weight': (INNER, INNER // 8),
        'channel_select.bias': (INNER,),
    }
    return {prefix + name: torch.randn(shape) for name, shape in shapes.items()}


def load_mixer(mixer, converted, stem):
    mixer.load_state_dict({name.removeprefix(stem): value for name, value in converted.items()})
    return mixer


def test_supernet_block_of_local_vmamba_equals_the_published_one():
    state = {
        'in_proj.weight': torch.randn(2 * INNER, DIM) * 0.3,
        'conv2d.weight': torch.randn(INNER, 1, 3, 3) * 0.3,
        'conv2d.bias': torch.randn(INNER) * 0.1,
        'x_proj_weight': torch.randn(8, RANK + 2 * STATES, INNER) * 0.3,
        'dt_projs_weight': torch.randn(8, INNER, RANK) * 0.3,
        'dt_projs_bias': torch.randn(8, INNER),
        'A_logs': torch.randn(8 * INNER, STATES) * 0.3,
        'Ds': torch.randn(8 * INNER),
        'out_norm.weight': torch.randn(INNER),
        'out_norm.bias': torch.randn(INNER),
        'out_proj.weight': torch.randn(DIM, INNER),
        'multi_scan.weights': torch.randn(8, 1, 1, 1),
        **attn_state('multi_scan.attn.'),
    }
    published = {f'layers.0.blocks.0.op.{name}': value for name, value in state.items()}
    mixer = SS2D(DIM, CANDIDATES, d_state=STATES, search=True)
    load_mixer(mixer, vmamba_from_published(published), 'stages.0.blocks.0.mixer.')
    image = torch.randn(2, *SIZE, DIM)

    x, z = (image @ state['in_proj.weight'].T).chunk(2, -1)
    x = F.conv2d(x.permute(0, 3, 1, 2), state['conv2d.weight'], state['conv2d.bias'], padding=1, groups=INNER)
    x = F.silu(x).flatten(2).transpose(1, 2)
    a_logs, skips = state['A_logs'].view(8, INNER, STATES), state['Ds'].view(8, INNER)
    branches = []
    for k, name in enumerate(CANDIDATES):
        order = scan_order(name, *SIZE)
        weights = state['x_proj_weight'][k], state['dt_projs_weight'][k], state['dt_projs_bias'][k]
        branches.append(in_place(scan_one(gather(x, order), *weights, a_logs[k], skips[k]), order))
    y = published_mix(branches, state, 'multi_scan.attn.')
    y = F.layer_norm(y, (INNER,), state['out_norm.weight'], state['out_norm.bias']).view(2, *SIZE, INNER)
    expected = (y * F.silu(z)) @ state['out_proj.weight'].T
    torch.testing.assert_close(mixer(image), expected, atol=1e-4, rtol=1e-4)


def test_supernet_block_of_local_vim_equals_the_published_one():
    state = {
        'in_proj.weight': torch.randn(2 * INNER, DIM) * 0.3,
        'out_proj.weight': torch.randn(DIM, INNER),
        'multi_scan.weights': torch.randn(8, 1, 1, 1),
        **attn_state('attn.'),
    }
    for k in range(8):
        state[f'A_log_{k}'] = torch.randn(INNER, STATES) * 0.3
        state[f'D_{k}'] = torch.randn(INNER)
        state[f'conv1d_{k}.weight'] = torch.randn(INNER, 1, 4) * 0.3
        state[f'conv1d_{k}.bias'] = torch.randn(INNER) * 0.3
        state[f'x_proj_{k}.weight'] = torch.randn(RANK + 2 * STATES, INNER) * 0.3
        state[f'dt_proj_{k}.weight'] = torch.randn(INNER, RANK) * 0.3
        state[f'dt_proj_{k}.bias'] = torch.randn(INNER)
    published = {f'layers.0.mixer.{name}': value for name, value in state.items()}
    mixer = VimMixer(DIM, CANDIDATES, d_state=STATES, search=True)
    load_mixer(mixer, local_vim_from_published(published), 'layers.0.mixer.')
    tokens = torch.randn(2, SIZE[0] * SIZE[1], DIM)

    x, z = (tokens @ state['in_proj.weight'].T).chunk(2, -1)
    branches = []
    for k, name in enumerate(CANDIDATES):
        order = scan_order(name, *SIZE)
        u = F.pad(gather(x, order).transpose(1, 2), (3, 0))
        u = F.silu(F.conv1d(u, state[f'conv1d_{k}.weight'], state[f'conv1d_{k}.bias'], groups=INNER)).transpose(1, 2)
        weights = [state[f'{part}_{k}{end}'] for part, end in PARTS]
        branches.append(in_place(scan_one(u, *weights), order) * F.silu(z))
    expected = published_mix(branches, state, 'attn.') @ state['out_proj.weight'].T
    torch.testing.assert_close(mixer(tokens, *SIZE), expected, atol=1e-4, rtol=1e-4)


PARTS = [('x_proj', '.weight'), ('dt_proj', '.weight'), ('dt_proj', '.bias'), ('A_log', ''), ('D', '')]


def test_sampling_all_branches_is_the_full_relaxation():
    mixture = DirectionMixture(8, 5)
    mixture.num_sampled = 5
    y = torch.randn(2, 5, 7, 8)
    torch.testing.assert_close(mixture.add_up(y, mixture.draw()), mixture.add_up(y, None))


def test_evaluation_computes_all_branches():
    mixture = DirectionMixture(8, 5).eval()
    mixture.num_sampled = 2
    assert mixture.draw() is None


@pytest.mark.parametrize('count', [1, 2, 4])
def test_inclusion_probabilities_sum_to_the_number_of_drawn_branches(count):
    inclusion = inclusion_probabilities(torch.tensor([0.9, 0.05, 0.02, 0.02, 0.01]).double(), count)
    assert inclusion.sum().item() == pytest.approx(count)
    assert inclusion.min() > 0
    assert inclusion.max() <= 1


def test_branches_are_drawn_as_often_as_their_inclusion_probabilities_say():
    inclusion = inclusion_probabilities(torch.tensor([0.6, 0.2, 0.1, 0.05, 0.05]).double(), 2)
    draws = [systematic_sample(inclusion) for _ in range(4000)]
    assert all(len(set(draw)) == 2 for draw in draws)
    frequencies = torch.tensor(draws).flatten().bincount(minlength=5) / 4000
    torch.testing.assert_close(frequencies.double(), inclusion, atol=0.03, rtol=0)


def test_every_pair_of_branches_can_be_drawn():
    inclusion = inclusion_probabilities(torch.full((4,), 0.25).double(), 2)
    assert len({tuple(systematic_sample(inclusion)) for _ in range(300)}) == 6


def test_sampled_mixture_and_gradient_of_alpha_are_unbiased():
    mixture = DirectionMixture(8, 5, attn=False)
    mixture.alpha.data = torch.tensor([1.0, 0.5, 0.0, -0.5, -1.0])
    mixture.num_sampled = 2
    y, target = torch.randn(1, 5, 3, 8), torch.randn(1, 3, 8)
    full = mixture.add_up(y, None)
    (expected,) = torch.autograd.grad((full * target).sum(), mixture.alpha)
    outputs, grads = [], []
    for _ in range(6000):
        draw = mixture.draw()
        out = mixture.add_up(y[:, draw.branches], draw)
        outputs.append(out.detach())
        grads += torch.autograd.grad((out * target).sum(), mixture.alpha)
    for samples, mean in ((torch.stack(outputs), full.detach()), (torch.stack(grads), expected)):
        error = samples.std(0) / 6000**0.5
        assert ((samples.mean(0) - mean).abs() <= 5 * error + 1e-6).all()


def test_one_sampled_step_gives_every_alpha_a_gradient():
    mixture = DirectionMixture(8, 5)
    draw = Draw([1, 3], torch.tensor([0.4, 0.4]).double())
    mixture(torch.randn(1, 2, 3, 8), torch.ones(1, 3, 8), draw=draw)[..., 0].sum().backward()
    assert (mixture.alpha.grad != 0).all()


@pytest.mark.parametrize('count', [0, 6])
def test_drawing_more_branches_than_there_are_is_refused(count):
    with pytest.raises(ValueError, match=f'cannot draw {count} of 5 candidate directions'):
        inclusion_probabilities(torch.full((5,), 0.2), count)
