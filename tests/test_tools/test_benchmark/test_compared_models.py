import pytest
import torch

from compared_models import deit, draw_image, forward_of, local_vim, local_vmamba, step_of, swin
from timing import Setup

SMALL = Setup(threads=1, runs=1, small=True)


def test_models_have_the_published_sizes():
    full = Setup()
    with torch.device('meta'):
        models = (local_vmamba(full), local_vim(full, 224), swin(full, 224), deit(full, 224))
    millions = [sum(parameter.numel() for parameter in model.parameters()) / 1e6 for model in models]
    assert millions == pytest.approx([25.5, 8.0, 28.3, 5.7], abs=0.05)


@pytest.mark.parametrize('build', [local_vmamba, lambda setup, maps: swin(setup, 64, maps)])
def test_backbones_give_four_maps_and_classifiers_logits(build):
    image = draw_image(SMALL, 64)
    assert forward_of(build(SMALL, maps=False), image)().shape == (1, 1000)
    assert len(forward_of(build(SMALL, maps=True), image)()) == 4


def test_a_forward_keeps_no_graph_and_autocasts_if_asked():
    model, image = local_vmamba(SMALL), draw_image(SMALL, 64)
    run = forward_of(model, image)
    assert not model.training
    assert not run().requires_grad
    assert run().dtype == torch.float32
    assert forward_of(model, image, autocast=True)().dtype == torch.bfloat16


def test_a_step_gives_every_parameter_a_gradient_and_leaves_none_over():
    model = local_vmamba(SMALL, maps=True)
    run = step_of(model, draw_image(SMALL, 64))
    run()
    first = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    run()
    assert model.training
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 1e-6, name
        torch.testing.assert_close(parameter.grad, first[name], rtol=1e-3, atol=1e-4, msg=name)


def test_images_are_batches():
    assert draw_image(Setup(batch=3, small=True), 32).shape == (3, 3, 32, 32)
