"""Can the model be built, and does its checkpoint fit? Asked before MMEngine writes pages of settings to the log."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from mmlocalmamba.models.backbones.base import ScanBackbone
from mmlocalmamba.models.weights.files import read_state_dict
from mmlocalmamba.models.weights.fitting import fit_tensors
from mmlocalmamba.models.weights.loading import select_backbone


def check_model(cfg: Config) -> None:
    """Build the model of a config once, without memory for its weights, and fit its checkpoint to it. Changes nothing.

    It is built on PyTorch's device ``meta``, in a few tenths of a second. A model that cannot be built there, because
    it looks at numbers while it is built, is built on the CPU. A checkpoint at a URL is left to the run.

    Args:
        cfg: The whole config.

    Raises:
        Exception: What the model raises when it is built.
        ValueError: If a local checkpoint of one of our backbones does not fit. The message names the tensors.
    """
    with torch.random.fork_rng(devices=[]):
        model = _on_meta(cfg)
        if model is None:
            model = _build(cfg)
    backbone = getattr(model, 'backbone', None)
    if isinstance(backbone, ScanBackbone):
        _fit_checkpoint(backbone)


def _on_meta(cfg: Config) -> nn.Module | None:
    """Build the model without memory; None if that fails: by the device's fault or the config's, the CPU tells."""
    try:
        with torch.device('meta'):
            return _build(cfg)
    except Exception:
        return None


def _build(cfg: Config) -> nn.Module:
    with MODELS.switch_scope_and_registry(cfg.get('default_scope') or 'mmengine') as registry:
        return registry.build(copy.deepcopy(cfg.model))


def _fit_checkpoint(backbone: ScanBackbone) -> None:
    init_cfg = backbone.init_cfg
    if not isinstance(init_cfg, Mapping) or init_cfg.get('type') != 'Pretrained' or init_cfg.get('warm_start'):
        return
    source = init_cfg.get('checkpoint')
    if source and Path(source).is_file():
        state = read_state_dict(source, init_cfg.get('weights'))
        fit_tensors(backbone, select_backbone(state, init_cfg.get('prefix'), source), source)
