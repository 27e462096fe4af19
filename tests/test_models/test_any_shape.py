"""Backbones and neck on images of any size, number, layout and dtype, forward and backward."""

import copy
import io
import pickle
from itertools import pairwise

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from mmlocalmamba.models import LocalVim, LocalVMamba, SimpleFPN, Vim, VMamba

FEW = settings(
    max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

SIDES = st.one_of(st.integers(1, 40), st.integers(1, 40), st.sampled_from([97, 130, 224, 299, 300]))
NAMES = st.builds(
    '{}{}'.format, st.sampled_from(['h', 'v', *(f'w{k}' for k in range(1, 10))]), st.sampled_from(['', '_flip'])
)
BLOCKS = st.lists(st.lists(NAMES, min_size=1, max_size=3, unique=True), min_size=4, max_size=4)
LAYOUTS = ('contiguous', 'channels last', 'part of a larger image', 'every second column', 'expanded')
BACKBONES = ('LocalVMamba', 'LocalVim', 'LocalVim with a class token', 'VMamba', 'VMamba v2', 'Vim')

IMAGES = st.fixed_dictionaries(
    dict(height=SIDES, width=SIDES, batch=st.integers(0, 3), layout=st.sampled_from(LAYOUTS), double=st.booleans())
)


def build(name, directions=(('h', 'w2'), ('v',), ('w7_flip',), ('w3', 'h_flip')), **kwargs):
    torch.manual_seed(0)
    wide = dict(dims=(4, 4, 8, 8), depths=(1, 1, 1, 1))
    deep = dict(embed_dim=8, depth=4)
    common = dict(d_state=2, **kwargs)
    match name:
        case 'LocalVMamba':
            return LocalVMamba(arch=wide | dict(directions=directions), **common)
        case 'VMamba' | 'VMamba v2':
            kind = dict(kind='v2' if name.endswith('v2') else 'vanilla', ssm_ratio=2.0)
            return VMamba(arch=wide | kind, directions=directions, **common)
        case 'Vim':
            return Vim(arch=deep, img_size=32, patch_size=8, out_indices=(1, 3), **common)
    token = dict(middle_cls_token=True, rope=False) if name.endswith('token') else {}
    arch = deep | dict(directions=directions)
    return LocalVim(arch=arch, img_size=32, patch_size=8, out_indices=(1, 3), **token, **common)


def draw_image(height, width, batch, layout, double):
    height, width = height, min(width, 12_000 // height + 1)  # some are long, none is large
    torch.manual_seed(height * 1000 + width)
    dtype = torch.float64 if double else torch.float32
    match layout:
        case 'contiguous':
            return torch.randn(batch, 3, height, width, dtype=dtype)
        case 'channels last':
            return torch.randn(batch, height, width, 3, dtype=dtype).permute(0, 3, 1, 2)
        case 'part of a larger image':
            return torch.randn(batch, 3, height + 2, width + 3, dtype=dtype)[..., 1:-1, 2:-1]
        case 'every second column':
            return torch.randn(batch, 3, height, 2 * width, dtype=dtype)[..., ::2]
    return torch.randn(1, 1, height, width, dtype=dtype).expand(batch, 3, height, width)


def run(model, image):
    """Give the maps, and the gradients of the image and of every parameter."""
    model.zero_grad()
    image = image.detach().requires_grad_()
    maps = model(image)
    sum(m.square().sum() for m in maps).backward()
    return [*maps, image.grad, *(x.grad for x in model.parameters())]


@pytest.mark.parametrize('name', BACKBONES)
@FEW
@given(image=IMAGES, directions=BLOCKS, with_cp=st.booleans())
def test_backbones_take_any_image(name, image, directions, with_cp):
    model = build(name, directions, with_cp=with_cp)
    image = draw_image(**image)
    model.to(image.dtype)
    results = run(model, image)

    strides = (4, 8, 16, 32) if 'VMamba' in name else (8, 8)
    for i, (output, stride) in enumerate(zip(results, strides, strict=False)):
        assert output.shape[0] == len(image)
        assert output.shape[2:] == (-(-image.shape[2] // stride), -(-image.shape[3] // stride)), i
    assert all(x is not None and x.isfinite().all() for x in results)
    for got, want in zip(results, run(model, image.contiguous()), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5 * max(1.0, float(want.detach().abs().sum())))


@FEW
@given(height=SIDES, width=SIDES, batch=st.integers(0, 3), double=st.booleans(), last=st.booleans())
def test_the_neck_takes_any_map(height, width, batch, double, last):
    dtype = torch.float64 if double else torch.float32
    x = torch.randn(batch, 8, -(-height // 16), -(-width // 16), dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    neck = SimpleFPN(in_channels=8, out_channels=4).to(dtype)
    levels = neck((x.requires_grad_(),))
    sum(level.square().sum() for level in levels).backward()

    assert [len(level) for level in levels] == [batch] * 5
    sizes = [level.shape[2:] for level in levels]
    assert sizes[0] == (4 * x.shape[2], 4 * x.shape[3])
    assert all(b == (-(-a[0] // 2), -(-a[1] // 2)) for a, b in pairwise(sizes))
    assert x.grad.isfinite().all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('out_type', ['mixer', 'residual'])
@pytest.mark.parametrize('name', ['LocalVim', 'LocalVim with a class token', 'Vim'])
def test_plain_backbones_in_half_precision(name, out_type, dtype):
    image = torch.randn(1, 3, 24, 17)
    model = build(name, out_type=out_type)
    want = model(image)
    for got, wanted in zip(model.to(dtype)(image.to(dtype)), want, strict=True):
        assert got.dtype == dtype
        torch.testing.assert_close(got.float(), wanted, rtol=0.1, atol=0.1)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('name', ['LocalVMamba', 'VMamba', 'VMamba v2'])
def test_hierarchical_backbones_in_half_precision(name, dtype):
    image = torch.randn(1, 3, 24, 17)
    model = build(name)
    want = model(image)
    for got, wanted in zip(model.to(dtype)(image.to(dtype)), want, strict=True):
        assert got.dtype == dtype
        torch.testing.assert_close(got.float(), wanted, rtol=0.1, atol=0.1)


@pytest.mark.parametrize('name', BACKBONES)
def test_copies_and_pickles_compute_the_same(name):
    model, image = build(name), torch.randn(2, 3, 19, 5)
    want = run(model, image)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for other in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(file, weights_only=False),
    ):
        assert all(torch.equal(a, b) for a, b in zip(run(other, image), want, strict=True))


@pytest.fixture
def one_process():
    """A group of one process."""
    torch.distributed.init_process_group('gloo', store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason='this PyTorch has no torch.distributed')
@pytest.mark.parametrize('batch', [0, 2])
@pytest.mark.parametrize('name', BACKBONES)
def test_distributed_training_computes_the_same(name, batch, one_process):
    model, image = build(name), torch.randn(batch, 3, 3, 21)
    want = run(model, image)
    wrapped = nn.parallel.DistributedDataParallel(model)
    for got, wanted in zip(run(wrapped, image), want, strict=True):
        torch.testing.assert_close(got, wanted)
