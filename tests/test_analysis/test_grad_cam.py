"""Grad-CAM on a classifier whose maps are known, and its figure; test_tools/test_pictures.py has the other tasks."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from mmlocalmamba.analysis.grad_cam import GradCAM
from mmlocalmamba.analysis.plot_grad_cam import ActivationRow, plot_activation_maps
from mmlocalmamba.inference.trained import TrainedModel

CONFIG = """
model = dict(
    type='mmlocalmamba.ImageClassifier',
    data_preprocessor=dict(type='mmlocalmamba.ClassificationDataPreprocessor', num_classes=2),
    backbone=dict(type='mmlocalmamba.LocalVMamba', arch='micro', out_indices=(3,), out_norm=False),
    head=dict(type='mmlocalmamba.ClassificationHead', in_channels=256, num_classes=2),
)
test_dataloader = dict(
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmlocalmamba.ImageFolder',
        metainfo=dict(classes=('left', 'right')),
        pipeline=[dict(type='mmlocalmamba.TimmTransform', input_size=64, is_training=False)],
    ),
)
"""


class Halves(nn.Module):
    """Gives a map with two channels: the first lights up on the left, the second on the right."""

    def forward(self, images):
        left = torch.zeros(1, 1, 8, 8)
        left[..., :4] = 1
        return (torch.cat([left, left.flip(-1)], 1),)


class Means(nn.Module):
    """Takes each channel's mean for a class; the right one is surer."""

    def forward(self, maps):
        return maps[0].mean((2, 3)) * torch.tensor([1.0, 3.0])


@pytest.fixture
def trained(tmp_path):
    (tmp_path / 'c.py').write_text(CONFIG)
    cfg = Config.fromfile(tmp_path / 'c.py')
    return TrainedModel(
        MODELS.build(cfg.model).eval(), 'classification', cfg, ('left', 'right'), ((0, 0, 0),) * 2, (1, 2)
    )


@pytest.fixture
def picture(tmp_path):
    from PIL import Image

    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(tmp_path / 'x.png')
    return lambda cam: cam.pipeline.read(tmp_path / 'x.png', 'x.png', 0)


def test_the_map_lies_where_the_class_is(trained, picture):
    trained.model.backbone, trained.model.head = Halves(), Means()
    cam = GradCAM(trained)

    surest, asked = cam(picture(cam)), cam(picture(cam), 0)

    assert (surest.label, asked.label) == (1, 0)
    for (heat,), side in ((surest.maps, np.s_[:, 40:]), (asked.maps, np.s_[:, :24])):
        assert heat.shape == surest.image.shape[:2] == (64, 64)
        np.testing.assert_allclose(heat[side], 1, rtol=1e-6)
        assert heat.mean() == pytest.approx(0.5)


def test_maps_follow_the_formula(trained, picture):
    cam = GradCAM(trained)
    inputs = cam.pipeline.collate(cam.pipeline.prepare([picture(cam)]))[0]
    feature = trained.model.backbone(trained.model.data_preprocessor(inputs)['inputs'])[0].detach().requires_grad_()
    trained.model.head((feature,))[0, 1].backward()
    heat = torch.einsum('chw,c->hw', feature[0], feature.grad[0].mean((1, 2))).relu()
    heat = nn.functional.interpolate(heat[None, None], (64, 64), mode='bilinear')[0, 0].detach()

    (found,) = cam(picture(cam), 1).maps

    torch.testing.assert_close(torch.from_numpy(found), heat / heat.max(), rtol=1e-3, atol=1e-4)
    assert all(parameter.grad is None for parameter in trained.model.backbone.parameters())


def test_the_figure_has_a_row_per_picture_and_a_column_per_output():
    image, heat = np.zeros((10, 20, 3), np.uint8), np.eye(10, 20)
    rows = [ActivationRow(image, image, name, [heat, heat]) for name in ('cat', 'dog')]
    figure = plot_activation_maps(rows, ['output 0', 'output 1'])
    panels = figure.axes[:6]
    assert [axes.get_title() for axes in panels] == ['prediction', 'output 0', 'output 1', '', '', '']
    assert [axes.get_ylabel() for axes in panels[::3]] == ['cat', 'dog']
    assert np.array_equal(panels[5].images[1].get_array(), heat)
