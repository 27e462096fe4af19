"""What of a model is exported: everything from the normalised image to the last layer's numbers.

What comes after them is not: decoding of boxes, non-maximum suppression, the second stage of two-stage detectors (its
RoIAlign takes as many boxes as there happen to be), and resizing of masks to the image.
"""

from __future__ import annotations

import inspect
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
        raise TypeError(
            f"a head puts out a {type(value).__name__}, which no exporter takes: export part 'backbone' instead"
        )


PARTS = ('model', 'rpn', 'backbone')


def exported_part(model: nn.Module, part: str = 'model') -> Part:
    """Choose what of a model is exported.

    Args:
        model: A backbone, an ``ImageClassifier``, one of MMSegmentation's encoder-decoders, or one of MMDetection's
            detectors.
        part: ``'model'``: all that is a graph of tensors, up to the head's numbers; ``'rpn'``: up to the RPN's, of a
            two-stage detector; ``'backbone'``: the backbone's maps.

    Returns:
        The part, in evaluation mode.

    Raises:
        ValueError: If there is no such part.
        TypeError: If the model has no such part, or a head that cannot be exported. The message says what can be.
    """
    if part not in PARTS:
        raise ValueError(f'part={part!r} is unknown: choose one of {PARTS}')
    backbone = getattr(model, 'backbone', None)
    if backbone is None:
        return Part(_Flat(model).eval(), 'maps of the backbone')
    if part == 'backbone':
        return Part(_Flat(backbone).eval(), 'maps of the backbone', 'neck and heads')
    layers = [backbone, model.neck] if getattr(model, 'with_neck', False) else [backbone]
    if part == 'rpn':
        rpn = getattr(model, 'rpn_head', None)
        if not isinstance(rpn, nn.Module):
            raise TypeError(f"{type(model).__name__} has no RPN: export part 'model' or part 'backbone'")
        return Part(_Flat(*layers, rpn).eval(), 'raw scores and deltas of the RPN, level by level', 'second stage, NMS')
    _refuse_unexportable(model)
    for name, contents, left_out in _HEADS:
        head = getattr(model, name, None)
        if isinstance(head, nn.Module):
            _refuse_head(model, head)
            return Part(_Flat(*layers, head).eval(), contents, left_out)
    raise TypeError(
        f"{type(model).__name__} has none of {[name for name, *_ in _HEADS]}: export part 'backbone' instead"
    )


_HEADS = (
    ('bbox_head', 'raw outputs of the dense head, level by level', 'decoding of boxes and NMS'),
    ('decode_head', 'logits of the decode head', 'resizing to the image'),
    ('head', 'logits', ''),
)
"""Heads in the order in which they are looked for: its attribute, what it puts out, what comes after it."""

_UNEXPORTABLE = {
    'roi_head': 'takes as many boxes as there happen to be',
    'mask_head': 'takes as many objects as there happen to be',
    'panoptic_head': "needs the images' metadata",
}
"""Heads that no exporter takes, by attribute, and why."""


def _refuse_unexportable(model: nn.Module) -> None:
    """Raise a TypeError if the model has a part behind its dense layers that is no graph of tensors."""
    for name, why in _UNEXPORTABLE.items():
        head = getattr(model, name, None)
        if isinstance(head, nn.Module):
            instead = "part 'rpn' or part 'backbone'" if hasattr(model, 'rpn_head') else "part 'backbone'"
            raise TypeError(
                f'{type(model).__name__} cannot be exported whole: its {name} ({type(head).__name__}) {why}, which is '
                f'no graph of tensors. Export {instead} instead'
            )
    if hasattr(model, 'forward_transformer'):  # MMDetection's DETR and all that inherit from its base
        raise TypeError(
            f"{type(model).__name__} cannot be exported whole: its transformer needs the images' metadata, which is no "
            "graph of tensors. Export part 'backbone' instead"
        )


def _refuse_head(model: nn.Module, head: nn.Module) -> None:
    """Raise a TypeError if a head wants more than the maps, or is a cascade of heads."""
    required = [
        name
        for name, parameter in inspect.signature(head.forward).parameters.items()
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    if isinstance(head, nn.ModuleList) or len(required) > 1:
        why = f'wants {", ".join(required[1:])} besides the maps' if len(required) > 1 else 'is several heads in a row'
        raise TypeError(
            f'{type(model).__name__} cannot be exported whole: its {type(head).__name__} {why}. '
            "Export part 'backbone' instead"
        )


def random_image(batch: int, size: tuple[int, int], channels: int = 3) -> Tensor:
    """Make images to export with: normally distributed, always the same."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, channels, *size, generator=generator)
