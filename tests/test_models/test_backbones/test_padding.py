"""Padding: where it is skipped, the maps of an image are those of the image alone."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from mmlocalmamba.analysis.flops import count_model
from mmlocalmamba.models import LocalVim, LocalVMamba, Vim, VMamba
from mmlocalmamba.models.backbones.padding import image_sizes

pytestmark = pytest.mark.usefixtures('on_each_device')

DIRECTIONS = [['h', 'w2_flip'], ['v_flip', 'w7'], ['w3', 'h_flip'], ['v', 'w2']]
SIZES = [(61, 77), (96, 100), (33, 128), (61, 77), (4, 4)]
"""Images of one batch: odd sides, sides that are no multiple of a patch, one size twice, and a tiny one."""


def hierarchical(**options) -> dict:
    return dict(dims=(8, 16, 16, 24), depths=(1, 1, 1, 1), **options)


def local_vmamba(**options) -> nn.Module:
    return LocalVMamba(hierarchical(directions=DIRECTIONS), d_state=2, **options)


def supernet(**options) -> nn.Module:
    return local_vmamba(search=True, **options)


def vmamba(**options) -> nn.Module:
    return VMamba(hierarchical(kind='vanilla', ssm_ratio=2.0), d_state=2, **options)


def vmamba_v2(**options) -> nn.Module:
    return VMamba(hierarchical(kind='v2', ssm_ratio=1.0), **options)


def local_vim(**options) -> nn.Module:
    arch = dict(embed_dim=16, depth=2, directions=DIRECTIONS[:2])
    options = dict(out_indices=(0, 1)) | options
    return LocalVim(arch, img_size=64, patch_size=8, d_state=2, **options)


def vim(**options) -> nn.Module:
    options = dict(out_type='residual') | options
    return Vim(dict(embed_dim=16, depth=2), img_size=64, patch_size=8, out_indices=(0, 1), d_state=2, **options)


MAKERS = pytest.mark.parametrize('make', [local_vmamba, supernet, vmamba, vmamba_v2, local_vim, vim])


def padded_batch(sizes: list[tuple[int, int]], height: int, width: int) -> tuple[Tensor, list[Tensor]]:
    """Give images of random values, and the batch of them that is padded to one size."""
    torch.manual_seed(0)
    images = [torch.randn(3, *size) for size in sizes]
    batch = torch.zeros(len(sizes), 3, height, width)
    for place, image in zip(batch, images, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    return batch, images


def check_each_as_alone(model: nn.Module, sizes: list[tuple[int, int]], height: int, width: int) -> None:
    """Check that the maps of a padded batch are those of each image alone, and 0 outside of it."""
    batch, images = padded_batch(sizes, height, width)
    with torch.no_grad():
        maps = model(batch)
        whole = model.compute_maps(batch)
        alone = [model.compute_maps(image[None]) for image in images]
    assert [m.shape for m in maps] == [m.shape for m in whole]
    for k, own_maps in enumerate(alone):
        for found, own in zip(maps, own_maps, strict=True):
            rows, columns = own.shape[2:]
            torch.testing.assert_close(found[k, :, :rows, :columns], own[0], atol=1e-5, rtol=1e-5)
            assert not found[k, :, rows:].any()
            assert not found[k, :, :, columns:].any()


@MAKERS
def test_an_image_has_the_maps_that_it_has_alone(make):
    model = make(padding='skip').eval()
    sizes = [size for size in SIZES if min(size) >= model.stride_of(0)]
    check_each_as_alone(model, sizes, 96, 128)
    check_each_as_alone(model, sizes[:1], 192, 192)
    check_each_as_alone(model, [(61, 77), (61, 77)], 64, 96)


@MAKERS
def test_scanned_padding_changes_the_maps_of_an_image(make):
    batch, images = padded_batch([(61, 77)], 96, 128)
    model = make().eval()
    with torch.no_grad():
        padded, alone = model(batch)[-1], model(images[0][None])[-1]
    rows, columns = alone.shape[2:]
    assert (padded[:, :, :rows, :columns] - alone).abs().max() > 1e-3


@pytest.mark.parametrize('make', [local_vmamba, local_vim])
def test_gradients_are_those_of_the_images_alone(make):
    batch, images = padded_batch(SIZES[:4], 96, 128)
    together, alone = make(padding='skip'), make()
    alone.load_state_dict(together.state_dict())
    sum(m.square().sum() for m in together(batch)).backward()
    sum(m.square().sum() for image in images for m in alone(image[None])).backward()
    for (name, found), own in zip(together.named_parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(
            found.grad, own.grad, atol=1e-3, rtol=1e-3, msg=lambda text, name=name: f'{name} {text}'
        )


@pytest.mark.parametrize(
    'options',
    [dict(with_cp=True, drop_path_rate=0.3), dict(spatial_attn=True), dict(attn=False), dict(out_indices=(1,))],
)
@pytest.mark.parametrize('make', [local_vmamba, local_vim])
def test_it_goes_with_the_other_options(make, options):
    model = make(padding='skip', **options)
    check_each_as_alone(model.eval(), SIZES[:3], 96, 128)
    batch, _ = padded_batch(SIZES[:3], 96, 128)
    sum(m.mean() for m in model.train()(batch)).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_class_tokens_are_those_of_the_images_alone():
    model = local_vim(rope=False, middle_cls_token=True, out_type='cls_token', padding='skip').eval()
    batch, images = padded_batch(SIZES[:3], 96, 128)
    with torch.no_grad():
        for k, image in enumerate(images):
            torch.testing.assert_close(model(batch)[-1][k], model(image[None])[-1][0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('make', [local_vmamba, local_vim])
def test_without_padding_it_is_one_pass_over_the_same_tensor(make, monkeypatch):
    model = make(padding='skip').eval()
    seen, compute = [], model.compute_maps
    monkeypatch.setattr(model, 'compute_maps', lambda images: seen.append(images) or compute(images))
    images = torch.randn(3, 3, 40, 56)
    maps = model(images)
    assert len(seen) == 1
    assert seen[0] is images
    for found, expected in zip(maps, compute(images), strict=True):
        assert torch.equal(found, expected)


def test_crops_of_a_padded_batch_have_the_sizes_of_their_own():
    batch, _ = padded_batch([(61, 77), (40, 30)], 96, 128)
    assert image_sizes(batch) == [(61, 77), (40, 30)]
    assert image_sizes(batch[:, :, 16:80, 24:128]) == [(45, 53), (24, 6)]
    assert image_sizes(batch[:, :, 48:, 96:]) == [(48, 32), (48, 32)]  # nothing but padding


def test_dark_pixels_and_rows_inside_an_image_are_no_padding():
    image = torch.zeros(1, 3, 8, 8)
    image[0, 1, 5, 2] = 1e-30
    image[0, 2, 0, 6] = -1
    assert image_sizes(image) == [(6, 7)]
    assert image_sizes(image, smallest=8) == [(8, 8)]
    assert image_sizes(torch.zeros(2, 3, 8, 9)) == [(8, 9), (8, 9)]
    assert image_sizes(torch.zeros(0, 3, 8, 9)) == []


def test_an_image_smaller_than_a_patch_is_filled_up_to_one():
    batch, _ = padded_batch([(2, 3), (32, 32)], 32, 32)
    maps = local_vmamba(padding='skip').eval()(batch)
    assert [tuple(m.shape[2:]) for m in maps] == [(8, 8), (4, 4), (2, 2), (1, 1)]
    assert maps[0][0, :, 0, 0].any()
    assert not maps[0][0, :, 1:].any()


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_it_keeps_the_dtype_of_the_model(dtype):
    batch, _ = padded_batch([(61, 77), (40, 30)], 64, 80)
    maps = local_vmamba(padding='skip').to(dtype)(batch.to(dtype))
    assert {m.dtype for m in maps} == {dtype}


def test_autocast_decides_the_dtype_as_without_padding():
    batch, _ = padded_batch([(61, 77), (40, 30)], 64, 80)
    model = local_vmamba(padding='skip').eval()
    with torch.autocast(batch.device.type, torch.bfloat16), torch.no_grad():
        assert [m.dtype for m in model(batch)] == [m.dtype for m in model.compute_maps(batch)]


def test_gradients_are_the_same_in_distributed_training(tmp_path):
    batch, _ = padded_batch(SIZES[:3], 96, 128)
    alone = local_vmamba(padding='skip', with_cp=True)
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(copy.deepcopy(alone))
        for model in (alone, wrapped):
            sum(m.square().mean() for m in model(batch)).backward()
    finally:
        torch.distributed.destroy_process_group()
    for found, own in zip(wrapped.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(found.grad, own.grad)


def test_a_copy_and_a_pickle_skip_too():
    model = local_vmamba(padding='skip').eval()
    batch, _ = padded_batch([(33, 20)], 64, 64)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(batch)[-1], model(batch)[-1])


def test_both_have_the_same_weights():
    assert local_vmamba(padding='skip').state_dict().keys() == local_vmamba().state_dict().keys()


def test_flops_are_counted_as_without_padding():
    assert count_model(local_vmamba(padding='skip'), 64, 96) == count_model(local_vmamba(), 64, 96)


@MAKERS
def test_another_word_is_refused(make):
    with pytest.raises(ValueError, match=r"padding='mask' is unknown: 'scan' scans .* 'skip' leaves them out"):
        make(padding='mask')


@pytest.mark.parametrize('make', [local_vmamba, local_vim])
def test_a_compiled_model_skips_too(make):
    model = make(padding='skip').eval()
    compiled = torch.compile(model, backend='eager')
    batch, _ = padded_batch([(33, 20), (24, 40), (33, 20)], 48, 64)
    with torch.no_grad():
        for found, expected in zip(compiled(batch), model(batch), strict=True):
            torch.testing.assert_close(found, expected)


def test_exporting_it_is_refused():
    with pytest.raises(Exception, match="padding='skip' cannot be exported or traced"):
        torch.export.export(local_vmamba(padding='skip').eval(), (torch.randn(1, 3, 32, 32),), strict=False)


def test_tracing_it_is_refused():
    with pytest.raises(RuntimeError, match="padding='skip' cannot be exported or traced"):
        torch.jit.trace(local_vmamba(padding='skip').eval(), torch.randn(1, 3, 32, 32))
