"""The backbones through timm's interface."""

import logging
import subprocess
import sys

import pytest
import torch

timm = pytest.importorskip('timm')

from mmlocalmamba.models import ClassificationHead, ImageClassifier  # noqa: E402
from mmlocalmamba.timm import MODELS, TimmModel  # noqa: E402

MICRO = [name for name in MODELS if 'micro' in name]


def create(name: str, **settings):
    if 'vim' in name:
        settings.setdefault('img_size', 64)
    return timm.create_model(name, **settings)


@pytest.mark.parametrize('name', MICRO)
def test_a_classifier_of_any_channels_and_classes(name) -> None:
    model = create(name, num_classes=7, in_chans=4, drop_path_rate=0.1, drop_rate=0.1)
    logits = model(torch.rand(2, 4, 64, 48))
    assert logits.shape == (2, 7)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize('name', MICRO)
def test_it_computes_what_the_classifier_of_mmengine_computes(name) -> None:
    model = create(name, num_classes=5).eval()
    plain = 'vim' in name
    arch = name.removeprefix('local_').split('_', 1)[1]
    backbone = dict(type=f'mmlocalmamba.{type(model.backbone).__name__}', arch=arch)
    if plain:
        backbone.update(img_size=64, out_type='residual')
    head = dict(
        type='mmlocalmamba.ClassificationHead',
        in_channels=model.num_features,
        num_classes=5,
        norm='RMSNorm' if plain else 'LN',
    )
    ours = ImageClassifier(dict(**backbone, out_indices=(-1,), out_norm=False), head).eval()
    ours.load_state_dict(model.state_dict())
    images = torch.rand(1, 3, 64, 80)
    torch.testing.assert_close(model(images), ours(images))


@pytest.mark.parametrize('name', MICRO)
def test_features_are_the_maps_of_the_chosen_units(name) -> None:
    whole = create(name, in_chans=1).eval()
    model = create(name, features_only=True, out_indices=(1, 2), in_chans=1).eval()
    images = torch.rand(1, 1, 64, 48)
    model.model.load_state_dict(whole.state_dict(), strict=False)

    maps = model(images)

    assert [m.shape[1] for m in maps] == model.feature_info.channels()
    assert [-(-64 // r) for r in model.feature_info.reduction()] == [m.shape[2] for m in maps]
    for index, found in zip((1, 2), maps, strict=True):
        torch.testing.assert_close(found, whole.backbone.compute_maps(images, [index])[0])
    assert len(list(model.parameters())) < len(list(whole.parameters()))


def test_by_default_features_are_what_the_backbone_outputs() -> None:
    assert create('local_vmamba_tiny', features_only=True).feature_info.channels() == [96, 192, 384, 768]
    assert timm.create_model('local_vim_tiny', features_only=True).out_indices == [4, 9, 14, 19]


@pytest.mark.parametrize('name', MICRO)
def test_intermediates(name) -> None:
    model = create(name).eval()
    images = torch.rand(1, 3, 64, 64)
    final, two = model.forward_intermediates(images, indices=2)
    torch.testing.assert_close(final, model.forward_features(images))
    assert torch.equal(two[-1], final)
    (normed,) = model.forward_intermediates(images, indices=[3], norm=True, intermediates_only=True)
    torch.testing.assert_close(model.head.fc(normed.mean((2, 3))), model(images))
    (early,) = model.forward_intermediates(images, indices=[0], stop_early=True, intermediates_only=True)
    torch.testing.assert_close(early, model.backbone.compute_maps(images, [0])[0])
    with pytest.raises(ValueError, match="output_fmt='NLC'"):
        model.forward_intermediates(images, output_fmt='NLC')
    with pytest.raises(ValueError, match='pass intermediates_only=True'):
        model.forward_intermediates(images, stop_early=True)


def test_the_classifier_is_replaced() -> None:
    model = create('local_vmamba_micro', num_classes=0)
    images = torch.rand(1, 3, 64, 64)
    assert model(images).shape == (1, model.num_features)
    model.reset_classifier(3)
    assert model(images).shape == (1, 3)
    assert model.get_classifier().out_features == 3
    model.reset_classifier(0, '')
    assert model(images).shape == (1, model.num_features, 2, 2)
    assert model.forward_head(model.forward_features(images), pre_logits=True).shape == (1, model.num_features, 2, 2)
    with pytest.raises(ValueError, match="global_pool='max'"):
        model.reset_classifier(3, 'max')


@pytest.mark.parametrize('name', MICRO)
def test_optimizers_know_layers_and_what_is_free_of_decay(name) -> None:
    from timm.optim import create_optimizer_v2

    model = create(name)
    optimizer = create_optimizer_v2(model, 'adamw', lr=1e-3, weight_decay=0.05, layer_decay=0.5)
    scales = {id(p): group['lr_scale'] for group in optimizer.param_groups for p in group['params']}
    decays = {id(p): group['weight_decay'] for group in optimizer.param_groups for p in group['params']}
    named = dict(model.named_parameters())
    assert len(scales) == len(named)
    assert scales[id(named['head.fc.weight'])] == 1
    first = next(value for key, value in named.items() if key.startswith('backbone.patch_embed'))
    assert scales[id(first)] == min(scales.values())
    blocks = [scales[id(p)] for key, p in named.items() if key.endswith('A_log')]
    assert blocks == sorted(set(blocks))
    assert all(decays[id(p)] == 0 for key, p in named.items() if key.endswith(('A_log', 'bias', 'pos_embed')))
    assert decays[id(named['head.fc.weight'])] == 0.05


def test_checkpointing_changes_no_gradient() -> None:
    model = create('local_vmamba_micro', num_classes=2)
    images, gradients = torch.rand(1, 3, 32, 32), []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        assert all(stage.with_cp is enable for stage in model.backbone.stages)
        model.zero_grad()
        model(images).sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.fixture
def classifier(tmp_path):
    """A checkpoint of a classifier of three classes, and its tensors."""
    model = TimmModel('local_vmamba_micro', num_classes=3)
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'classifier.pth')
    return tmp_path / 'classifier.pth', model.state_dict()


def load(path, **settings):
    overlay = dict(file=str(path))
    return timm.create_model('local_vmamba_micro', pretrained=True, pretrained_cfg_overlay=overlay, **settings)


def test_pretrained_by_file(classifier) -> None:
    path, state = classifier
    model = load(path, num_classes=3)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_another_number_of_classes_starts_anew_and_is_named(classifier, caplog) -> None:
    path, state = classifier
    caplog.set_level(logging.INFO, 'mmlocalmamba')
    model = load(path, num_classes=8)
    assert torch.equal(model.state_dict()['head.norm.weight'], state['head.norm.weight'])
    assert model(torch.rand(1, 3, 32, 32)).shape == (1, 8)
    assert 'head.fc.weight, head.fc.bias start anew' in caplog.text


def test_pretrained_features_of_gray_images(classifier) -> None:
    path, _ = classifier
    colour = load(path, features_only=True).eval()
    gray = load(path, features_only=True, in_chans=1).eval()
    image = torch.rand(1, 1, 64, 64)
    for one, other in zip(gray(image), colour(image.expand(-1, 3, -1, -1)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_a_bare_backbone_and_a_detector_are_taken_too(tmp_path) -> None:
    backbone = TimmModel('local_vmamba_micro').backbone.state_dict()
    detector = {f'backbone.{name}': value for name, value in backbone.items()} | {'neck.weight': torch.zeros(1)}
    for state in (backbone, detector):
        torch.save(state, tmp_path / 'other.pth')
        model = load(tmp_path / 'other.pth', num_classes=3)
        assert all(torch.equal(value, backbone[name]) for name, value in model.backbone.state_dict().items())


def test_weights_of_another_model_are_refused(tmp_path) -> None:
    torch.save(TimmModel('local_vim_micro', img_size=64).state_dict(), tmp_path / 'vim.pth')
    with pytest.raises(ValueError, match='LocalVim'):
        load(tmp_path / 'vim.pth')


def test_published_weights_have_their_address() -> None:
    cfg = timm.get_pretrained_cfg('local_vim_tiny')
    assert cfg.url.endswith('local_vim_tiny.ckpt')
    assert not timm.get_pretrained_cfg('local_vmamba_tiny').url
    assert cfg.custom_load


def test_heads_are_those_of_mmengine() -> None:
    assert isinstance(create('local_vmamba_micro').head, ClassificationHead)


PROGRAM = """
import mmlocalmamba.timm, timm, torch
print(timm.create_model('local_vmamba_micro', num_classes=2)(torch.rand(1, 3, 32, 32)).shape[1])
"""


@pytest.mark.slow
def test_one_import_is_enough() -> None:
    done = subprocess.run([sys.executable, '-c', PROGRAM], capture_output=True, text=True)
    assert done.stdout == '2\n', done.stderr
