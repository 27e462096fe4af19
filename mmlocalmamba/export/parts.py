"""What of a model is exported: everything from the normalised image to the last layer's numbers.

What comes after them is not: decoding of boxes, non-maximum suppression, the second stage of two-stage detectors (its
RoIAlign takes as many boxes as there happen to be), and resizing of masks to the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Part(NamedTuple):
    """A part of a model that takes one batch of images.

    Attributes:
        module: Maps images (B, C, H, W) to a tuple of tensors.
        contents: What it is, for messages and for the file.
        left_out: What of the model it lacks; empty if nothing.
    """

    module: nn.Module
    contents: str
    left_out: str = ''


class _Flat(nn.Module):
    """Run ``layers`` one after the other, and give what the last one returns as a flat tuple of tensors."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x: Any = image
        for layer in self.layers:
            x = layer(x)
        return tuple(_tensors(x))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    else:
        raise TypeError(f'a head puts out a {type(value).__name__}, which no exporter takes: use part="backbone"')


PARTS = ('model', 'backbone')


def exported_part(model: nn.Module, part: str = 'model') -> Part:
    """Choose what of a model is exported.

    Args:
        model: A backbone, an ``ImageClassifier``, one of MMSegmentation's encoder-decoders, or one of MMDetection's
            detectors.
        part: ``'model'``: as much as the heads allow; ``'backbone'``: the backbone's maps.

    Returns:
        The part, in evaluation mode.

    Raises:
        ValueError: If there is no such part.
        TypeError: If the model is of none of these kinds.
    """
    if part not in PARTS:
        raise ValueError(f'part={part!r} is unknown: choose one of {PARTS}')
    backbone = getattr(model, 'backbone', None)
    if backbone is None:
        return Part(_Flat(model).eval(), 'maps of the backbone')
    if part == 'backbone':
        return Part(_Flat(backbone).eval(), 'maps of the backbone', 'neck and heads')
    layers = [backbone, model.neck] if getattr(model, 'with_neck', False) else [backbone]
    for head, contents, left_out in _HEADS:
        if isinstance(getattr(model, head, None), nn.Module):
            return Part(_Flat(*layers, getattr(model, head)).eval(), contents, left_out)
    raise TypeError(
        f'{type(model).__name__} has none of {[head for head, *_ in _HEADS]}: export its backbone (part="backbone")'
    )


_HEADS = (
    ('rpn_head', 'raw scores and deltas of the RPN, level by level', 'proposals, RoI heads and their NMS'),
    ('bbox_head', 'raw outputs of the dense head, level by level', 'decoding of boxes and NMS'),
    ('decode_head', 'logits of the decode head', 'resizing to the image'),
    ('head', 'logits', ''),
)
"""Heads in the order in which they are looked for: its attribute, what it puts out, what comes after it."""


def random_image(batch: int, size: tuple[int, int], channels: int = 3) -> Tensor:
    """Make images to export with: normally distributed, always the same."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, channels, *size, generator=generator)
