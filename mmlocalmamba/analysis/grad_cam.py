"""Class activation maps: which parts of a picture speak for a class (Grad-CAM, Selvaraju et al., 2017).

The ``grad-cam`` package wants a model that maps one tensor to scores. A detector or segmenter of the mm packages maps
a batch with its meta information to samples instead, and its target is not a row of logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmlocalmamba.inference.pipeline import Picture, PicturePipeline
from mmlocalmamba.inference.trained import TrainedModel


class NothingFoundError(ValueError):
    """The model does not find the class in the picture, or no object at all."""


@dataclass(frozen=True)
class ActivationMaps:
    """Where a picture speaks for a class.

    Attributes:
        label: The class.
        image: What the maps lie over, uint8 (height, width, 3): the picture; for a classifier, whose pipeline may cut
            pictures, the model's input, with its values stretched to 0 to 255.
        maps: One float32 (height, width) per output of the backbone, from 0 to 1.
    """

    label: int
    image: np.ndarray
    maps: tuple[np.ndarray, ...]


class GradCAM:
    """Computes Grad-CAM's maps on the outputs of a trained model's backbone.

    What the gradient is taken of:

    - classifier: the logit of the class; by default of the likeliest one.
    - segmenter: the mean logit of the class over the pixels that it is given to (Vinogradova et al., 2020); by default
      of the class with the most pixels.
    - detector: the sum of the log-odds of the scores of the class's boxes; by default of the class of the surest box.

    Args:
        trained: The model.
        score_thr: For detectors: boxes with lower scores do not count.

    Raises:
        ValueError: If the model has no backbone.
    """

    def __init__(self, trained: TrainedModel, score_thr: float = 0.3) -> None:
        if not isinstance(getattr(trained.model, 'backbone', None), torch.nn.Module):
            raise ValueError(f'this {type(trained.model).__name__} has no backbone to take maps of')
        self.trained, self.score_thr = trained, score_thr
        self.pipeline = PicturePipeline(trained.cfg)

    def __call__(self, picture: Picture, label: int | None = None) -> ActivationMaps:
        """Compute the maps.

        Args:
            picture: From :attr:`pipeline`.
            label: The class; None for the one that the model is surest of.

        Raises:
            NothingFoundError: If a detector or segmenter finds no such class in the picture, or nothing at all.
            ValueError: If the model is a segmenter with a single logit.
        """
        model: Any = self.trained.model
        (batch,) = self.pipeline.collate(self.pipeline.prepare([picture]))
        outputs: list[Tensor] = []

        def keep(_module: Any, _inputs: Any, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            # They start the graph: nothing before them needs a gradient.
            outputs.extend(feature.detach().requires_grad_() for feature in maps)
            return tuple(outputs)

        handle = model.backbone.register_forward_hook(keep)
        try:
            with torch.enable_grad():
                data = model.data_preprocessor(batch, False)
                label, target = self._target(model, data, label)
        finally:
            handle.remove()
        gradients = torch.autograd.grad(target, outputs, allow_unused=True)
        classifies = self.trained.task == 'classification'
        image = _stretched(data['inputs'][0]) if classifies else picture.shown()
        inside = (1.0, 1.0) if classifies else _part_of_picture(data)
        maps = [
            _heat(feature, gradient, inside, image.shape[:2])
            for feature, gradient in zip(outputs, gradients, strict=True)
        ]
        return ActivationMaps(label, image, tuple(maps))

    def _target(self, model: Any, data: dict[str, Any], label: int | None) -> tuple[int, Tensor]:
        """Give the class and the number that is differentiated."""
        if self.trained.task == 'classification':
            logits = model(data['inputs'], mode='tensor')[0]
            label = int(logits.argmax()) if label is None else label
            return label, logits[label]
        samples = data['data_samples']
        if self.trained.task == 'segmentation':
            logits = model.encode_decode(data['inputs'], [sample.metainfo for sample in samples])[0]
            if len(logits) == 1:
                raise ValueError('a segmenter with one channel of logits tells no classes apart: want two or more')
            given = logits.argmax(0)
            label = int(given.flatten().mode().values) if label is None else label
            pixels = logits[label][given == label]
            if not len(pixels):
                raise NothingFoundError(self._not_found(label, given.unique().tolist()))
            return label, pixels.mean()
        found = model.predict(data['inputs'], samples, rescale=False)[0].pred_instances
        sure = found.scores >= self.score_thr
        labels, scores = found.labels[sure], found.scores[sure]
        if label is None:
            if not len(labels):
                raise NothingFoundError(f'the model finds no object with a score of at least {self.score_thr}')
            label = int(labels[scores.argmax()])
        chosen = scores[labels == label]
        if not len(chosen):
            raise NothingFoundError(self._not_found(label, labels.unique().tolist()))
        return label, torch.logit(chosen, eps=1e-6).sum()

    def _not_found(self, label: int, there: list[int]) -> str:
        names = self.trained.classes
        found = ', '.join(names[index] for index in there) or 'nothing'
        return f'the model finds no {names[label]!r} in the picture; it finds {found}'


def _stretched(pixels: Tensor) -> np.ndarray:
    """Make a normalised image (channels, height, width) visible; returns uint8 (height, width, 3)."""
    pixels = pixels[:3] if len(pixels) >= 3 else pixels[:1].expand(3, -1, -1)
    low, high = pixels.amin(), pixels.amax()
    scaled = 255 * (pixels - low) / (high - low).clamp_min(1e-9)
    return scaled.round().byte().permute(1, 2, 0).cpu().numpy()


def _part_of_picture(data: dict[str, Any]) -> tuple[float, float]:
    """Tell which part of the input's height and width is the picture; the rest is padding below and to the right."""
    height, width = data['inputs'].shape[-2:]
    rows, columns = data['data_samples'][0].metainfo.get('img_shape', (height, width))[:2]
    return rows / height, columns / width


def _heat(feature: Tensor, gradient: Tensor | None, inside: tuple[float, float], shape: tuple[int, ...]) -> np.ndarray:
    """Weigh the channels by their mean gradients, add them up, and keep what is positive (equations 1 and 2).

    Args:
        feature: An output (1, C, h, w).
        gradient: Its gradient; None if nothing depends on it.
        inside: From :func:`_part_of_picture`.
        shape: Height and width of the image.
    """
    if gradient is None:
        return np.zeros(shape, dtype=np.float32)
    heat = (gradient.mean((2, 3), keepdim=True) * feature).sum(1, keepdim=True).relu().detach().float()
    padded = [round(side / part) for side, part in zip(shape, inside, strict=True)]
    heat = F.interpolate(heat, padded, mode='bilinear', align_corners=False)[0, 0, : shape[0], : shape[1]]
    return (heat / heat.max().clamp_min(torch.finfo(heat.dtype).tiny)).cpu().numpy()
