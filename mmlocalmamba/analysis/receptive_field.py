"""Effective receptive fields: which pixels a position of a feature map listens to, and how much (Luo et al., 2016)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmlocalmamba.models.backbones.base import ScanBackbone
from mmlocalmamba.models.variants import VARIANTS, build_backbone
from mmlocalmamba.models.weights.loading import load_backbone

Centre = Callable[[Tensor], Tensor]
"""Maps images (B, 3, H, W) to the position in the middle of a feature map, (B, C)."""


def receptive_field(centre: Centre, images: Sequence[Tensor]) -> np.ndarray:
    """Average ``|d centre / d image|`` over images, the centre's channels being added up.

    Args:
        centre: From :func:`centre_of`.
        images: (3, H, W) each, of one size, as the model takes them.

    Returns:
        float64 (H, W): 1 at the pixel that matters most.

    Raises:
        ValueError: If there is no image, or no pixel has any influence.
    """
    if not images:
        raise ValueError('want at least one image')
    total = np.zeros(images[0].shape[-2:])
    for image in images:
        leaf = image[None].clone().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(centre(leaf).sum(), leaf)
        total += gradient.abs().sum((0, 1)).double().cpu().numpy()
    if not 0 < total.max() < np.inf:
        raise ValueError(f'the largest gradient is {total.max()}: is the model broken, or are its outputs all zero?')
    return total / total.max()


def share_above(field: np.ndarray, threshold: float) -> float:
    """Tell which part of the image has at least that influence, relative to the pixel with most of it."""
    return float((field >= threshold).mean())


def build_model(text: str, side: int) -> nn.Module:
    """Build a backbone by what the command line says, in evaluation mode.

    Args:
        text: The name of one of ours, such as ``local_vmamba_tiny``; a config file, whose ``model.backbone`` is meant;
            or ``timm:`` and a name of timm's. ``=`` and a file behind it are its weights; without it, weights are
            random, drawn with seed 0.
        side: Side of the images in pixels, for models that are built for one size.

    Raises:
        ValueError: If there is no such backbone, or the weights do not fit.
        ModuleNotFoundError: If it is timm's and timm is not installed, or a config's and MMEngine is not.
    """
    name, _, weights = text.partition('=')
    torch.manual_seed(0)
    if name.endswith('.py'):
        return _of_config(name, weights).eval()
    if name in VARIANTS:
        return build_backbone(name, pretrained=weights or False).eval()
    if name.startswith('timm:'):
        return _of_timm(name.removeprefix('timm:'), weights, side).eval()
    raise ValueError(
        f'there is no backbone {name!r}: want a config file, timm:<name of a timm model>, or one of '
        f'{", ".join(VARIANTS)}'
    )


def _of_config(path: str, weights: str) -> nn.Module:
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope

    cfg = Config.fromfile(path)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    backbone = MODELS.build({**cfg.model.backbone, 'init_cfg': None})
    if weights:
        if not isinstance(backbone, ScanBackbone):
            raise ValueError(
                f'the backbone of {path} is a {type(backbone).__name__}: weights are loaded into ours only'
            )
        load_backbone(backbone, weights)
    return backbone


def _of_timm(name: str, weights: str, side: int) -> nn.Module:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f'{name} is a model of timm: pip install timm', name='timm') from error
    if not timm.is_model(name):
        raise ValueError(f'timm has no model {name!r}')
    cfg = timm.models.get_pretrained_cfg(name)
    settings: dict[str, Any] = {'img_size': side} if cfg is not None and cfg.fixed_input_size else {}
    if weights:
        settings.update(pretrained=True, pretrained_cfg_overlay={'file': weights})
    return timm.create_model(name, features_only=True, **settings)


def centre_of(model: nn.Module, layer: str) -> Centre:
    """Give what computes the middle of a model's feature map.

    Maps are taken before the norm of the output: the channels of a LayerNorm's output add up to a constant, whose
    gradient is 0.

    Args:
        model: From :func:`build_model`.
        layer: ``'2'`` for the third stage (of LocalVim and Vim: block), or ``'2.5'`` for the sixth block in it.

    Raises:
        ValueError: If the model has no such layer.
    """
    stage, _, block = layer.partition('.')
    if not stage.isdigit() or (block and not block.isdigit()):
        raise ValueError(f'layer {layer!r}: want a stage such as 2, or a stage and a block such as 2.5')
    ours = isinstance(model, ScanBackbone)
    if block:
        path = f'stages.{stage}.blocks.{block}' if ours else f'layers_{stage}.blocks.{block}'
    elif ours:
        path = f'norm{stage}'
    else:
        return _of_stage(model, int(stage))
    try:
        module = model.get_submodule(path)
    except AttributeError as error:
        raise ValueError(f'this {type(model).__name__} has no layer {layer}: there is no {path} in it') from error
    return partial(_caught, model, module, is_norm=ours and not block)


def _caught(model: nn.Module, module: nn.Module, images: Tensor, is_norm: bool) -> Tensor:
    """Run a model, and give the middle of what a norm in it is given, or of what a block in it puts out."""
    caught: list[Tensor] = []

    def catch(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        caught.append(inputs[0] if is_norm else output)

    handle = module.register_forward_hook(catch)
    try:
        model(images)
    finally:
        handle.remove()
    feature = caught[0]
    if feature.dim() == 3:  # the tokens of a square map
        side = math.isqrt(feature.shape[1])
        feature = feature.unflatten(1, (side, side))
    return _middle(feature)


def _of_stage(model: nn.Module, stage: int) -> Centre:
    """Take a stage of a model of timm."""
    info: Any = getattr(model, 'feature_info', None)
    if info is None or stage >= len(info.channels()):
        raise ValueError(f'this {type(model).__name__} has no stage {stage}')
    channels_last = getattr(getattr(model, 'output_fmt', None), 'value', None) == 'NHWC'

    def centre(images: Tensor) -> Tensor:
        feature = model(images)[stage]
        return _middle(feature if channels_last else feature.permute(0, 2, 3, 1))

    return centre


def _middle(feature: Tensor) -> Tensor:
    return feature[:, feature.shape[1] // 2, feature.shape[2] // 2]
