"""Parameters and FLOPs of any model of a config, per part, without computing anything.

A multiply-add counts as one. Matrix products and convolutions are counted, and the selective scan as 9 L D N + L D per
direction, where L includes the padding of windows up to the longest direction's; normalisation, activations and
interpolation are not. Shapes alone are propagated, so that a detector at full size takes seconds on a CPU.

Detectors with regions of interest are counted with 1000 proposals, 100 of them with masks, as MMDetection does.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from .mixer_flops import counting

PROPOSALS = 1000
MASKS = 100

_PER_MULTIPLY_ADD = 2
"""What torch's counter counts a multiply-add as."""


@dataclass(frozen=True)
class PartCost:
    """The cost of one part of a model.

    Attributes:
        name: The part's name in the model, such as ``'roi_head.bbox_head'``.
        params: Number of parameters.
        flops: Multiply-adds of one image, everything counted.
        published_flops: The same, but each mixer of LocalVim and Vim counted as the published counter did: the
            projections of its directions once in place of once per direction, their causal convolutions not at all, and
            the scan as 5 L D N per direction.
        scan_flops: The part of ``flops`` that is the scan.
    """

    name: str
    params: int
    flops: int
    published_flops: int
    scan_flops: int


def default_shape(cfg: Config) -> tuple[int, int]:
    """Return the (height, width) at which the paper states FLOPs."""
    return {'mmdet': (800, 1280), 'mmseg': (512, 2048)}.get(cfg.get('default_scope'), (224, 224))


def build_model(cfg: Config) -> nn.Module:
    """Build the model of a config in evaluation mode, without loading any weights.

    Raises:
        ValueError: If the config has no model.
    """
    if 'model' not in cfg:
        raise ValueError(f'the config {cfg.filename} has no model')
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    return MODELS.build(cfg.model).eval()


def count_config(cfg: Config, height: int, width: int) -> list[PartCost]:
    """Count the model of a config for one image of ``height`` x ``width`` pixels; see :func:`count_model`."""
    return count_model(build_model(cfg), height, width)


def count_model(model: nn.Module, height: int, width: int) -> list[PartCost]:
    """Count a detector, segmenter or classifier for one image.

    Args:
        model: The model: one with a ``backbone``, perhaps a ``neck``, and heads; or a backbone alone.
        height: Rows of the image in pixels.
        width: Columns of the image in pixels.

    Returns:
        One entry per part, in the order of computation. Heads that only training uses have no FLOPs.

    Raises:
        ValueError: If the model has a head that this does not know.
    """
    training = model.training
    model.eval()
    # Mask2Former's heads look at values, so these have to be computed.
    values = hasattr(model, 'panoptic_head')
    mode: AbstractContextManager[Any] = nullcontext() if values else FakeTensorMode(allow_non_fake_inputs=True)
    try:
        with mode, torch.no_grad():
            return _count_parts(model, torch.zeros(1, input_channels(model), height, width))
    finally:
        model.train(training)


def input_channels(model: nn.Module) -> int:
    """Give the channels of the images that a model takes: those of the first convolution in its backbone; else 3."""
    backbone = getattr(model, 'backbone', model)
    return next((module.in_channels for module in backbone.modules() if isinstance(module, nn.Conv2d)), 3)


def total(parts: list[PartCost]) -> PartCost:
    """Add the parts up."""
    sums = (
        sum(getattr(part, field) for part in parts) for field in ('params', 'flops', 'published_flops', 'scan_flops')
    )
    return PartCost('total', *sums)


def _count_parts(model: nn.Module, image: Tensor) -> list[PartCost]:
    if not hasattr(model, 'backbone'):
        return [_count('model', model, image)[1]]
    x, part = _count('backbone', model.get_submodule('backbone'), image)
    parts = [part]
    if getattr(model, 'neck', None) is not None:
        x, part = _count('neck', model.get_submodule('neck'), x)
        parts.append(part)
    known = {'backbone', 'neck', 'data_preprocessor'}
    for name, head in model.named_children():
        if name in known:
            continue
        if name == 'auxiliary_head':
            parts.append(PartCost(name, _parameters(head), 0, 0, 0))
        elif name == 'roi_head':
            parts += _count_roi_heads(head, x)
        elif name in ('rpn_head', 'bbox_head', 'decode_head', 'head'):
            parts.append(_count(name, head, x)[1])
        elif name in ('panoptic_head', 'panoptic_fusion_head'):
            parts.append(_count_panoptic(name, head, x))
        else:
            raise ValueError(
                f'{type(model).__name__} has a part {name!r} ({type(head).__name__}) that cannot be counted'
            )
    return parts


def _count_roi_heads(roi_head: nn.Module, maps: tuple[Tensor, ...]) -> list[PartCost]:
    """Count the heads on regions: every stage of a cascade sees all proposals, its last one gives the masks."""
    parts = []
    for kind, number in (('bbox', PROPOSALS), ('mask', MASKS)):
        heads = getattr(roi_head, f'{kind}_head', None)
        if heads is None:
            continue
        stages = list(heads) if isinstance(heads, nn.ModuleList) else [heads]
        extractors: Any = getattr(roi_head, f'{kind}_roi_extractor')
        extractor: Any = extractors[0] if isinstance(extractors, nn.ModuleList) else extractors
        size = extractor.roi_layers[0].output_size
        regions = maps[0].new_empty(number, extractor.out_channels, *size)
        for i, head in enumerate(stages):
            name = f'roi_head.{kind}_head' + (f'.{i}' if len(stages) > 1 else '')
            parts.append(_count(name, head, regions)[1])
    return parts


def _count_panoptic(name: str, head: nn.Module, maps: tuple[Tensor, ...]) -> PartCost:
    from mmdet.structures import DetDataSample

    if name == 'panoptic_fusion_head':  # post-processing
        return PartCost(name, _parameters(head), 0, 0, 0)
    size = tuple(4 * side for side in maps[0].shape[-2:])  # the first map is at stride 4
    sample = DetDataSample(metainfo=dict(batch_input_shape=size, img_shape=size))
    return _count(name, head, maps, [sample])[1]


def _count(name: str, module: nn.Module, *inputs: Any) -> tuple[Any, PartCost]:
    """Run a part on shapes alone and count it."""
    with counting(module) as (counter, mixers):
        outputs = module(*inputs)
    others = (counter.get_total_flops() - mixers.seen) // _PER_MULTIPLY_ADD
    cost = mixers.cost
    flops, published = others + cost.flops, others + cost.published_flops
    return outputs, PartCost(name, _parameters(module), flops, published, cost.scan_flops)


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
