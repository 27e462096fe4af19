"""A trained model, out of a config and a checkpoint."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.logging import print_log
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from mmlocalmamba.engine.weight_check import check_file
from mmlocalmamba.models.weights.files import find_state_dict, read_checkpoint
from mmlocalmamba.models.weights.values import check_weights

from .classes import Color, category_ids, name_classes

TASKS = {'BaseDetector': 'detection', 'BaseSegmentor': 'segmentation', 'ImageClassifier': 'classification'}
"""What a model does, by a class that it inherits from: MMDetection's, MMSegmentation's, ours."""

_SHOWN = 8


@dataclass(frozen=True)
class TrainedModel:
    """A model that is ready to predict.

    Attributes:
        model: The model, in evaluation mode, on its device.
        task: ``'detection'``, ``'segmentation'`` or ``'classification'``.
        cfg: The whole config.
        classes: Name of each class.
        palette: Colour of each class: red, green, blue from 0 to 255.
        category_ids: COCO's number of each class, for results in COCO's format.
    """

    model: nn.Module
    task: str
    cfg: Config
    classes: tuple[str, ...]
    palette: tuple[Color, ...]
    category_ids: tuple[int, ...]

    @property
    def device(self) -> torch.device:
        """Device of the model's parameters."""
        return next(self.model.parameters()).device


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which model runs, and where."""
    parser.add_argument('--checkpoint', required=True, metavar='FILE', help='trained weights: a file or URL')
    parser.add_argument('--config', help='config file (default: the one that training left beside the checkpoint)')
    parser.add_argument('--device', help='cpu, cuda or cuda:<number> (default: the first GPU, or the CPU)')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}, help='settings that override the config: key=value'
    )


def model_of(args: argparse.Namespace) -> TrainedModel:
    """Load the model that the arguments of :func:`add_model_arguments` name.

    Raises:
        FileNotFoundError: If there is no such config or checkpoint.
        ValueError: If they do not go together: see :func:`load_model`.
    """
    config = Path(args.config) if args.config else find_config(args.checkpoint)
    if not config.is_file():
        raise FileNotFoundError(f'there is no config file {str(config)!r} (relative paths start at {Path.cwd()})')
    print_log(f'The config is {config}.', logger='current')
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(args.cfg_options)
    return load_model(cfg, args.checkpoint, choose_device(args.device))


def find_config(checkpoint: str) -> Path:
    """Find the config that training wrote beside its checkpoints.

    Raises:
        FileNotFoundError: If there is none, or more than one.
    """
    folder = Path(checkpoint).parent
    configs = sorted(folder.glob('*.py'))
    if '://' in checkpoint or len(configs) != 1:
        found = f'there are {", ".join(path.name for path in configs)}' if configs else 'there is none'
        raise FileNotFoundError(
            f'--config was left out, and beside {checkpoint} {found} instead of one config file: give --config'
        )
    return configs[0]


def choose_device(name: str | None) -> torch.device:
    """Give the device of a name; without one, the first GPU, or the CPU, and then the log says so.

    Raises:
        ValueError: If the name is no device's, or asks for a GPU where PyTorch sees none.
    """
    has_gpu = torch.cuda.is_available()
    if name is None:
        if not has_gpu:
            print_log('PyTorch sees no GPU: the model runs on the CPU.', logger='current')
        return torch.device('cuda:0' if has_gpu else 'cpu')
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f'--device {name} is no device: give cpu, cuda or cuda:<number>') from error
    if device.type == 'cuda' and not (has_gpu and (device.index or 0) < torch.cuda.device_count()):
        raise ValueError(
            f'--device {name}: PyTorch sees {torch.cuda.device_count()} GPUs here. Leave --device out to use what '
            'there is, or give --device cpu'
        )
    return device


def load_model(cfg: Config, checkpoint: str, device: torch.device) -> TrainedModel:
    """Build the model of a config, and fill it with a checkpoint.

    Nothing that the checkpoint brings is run. Its own copy of a config is not looked at.

    Args:
        cfg: The whole config; it is not changed.
        checkpoint: File or URL.
        device: Where the model goes.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If the checkpoint is not safe to load or does not fill the model, or if the model is of none of the
            three tasks.
    """
    check_file('--checkpoint', checkpoint)
    content = read_checkpoint(checkpoint)
    if not isinstance(content, Mapping):
        raise ValueError(f'{checkpoint} holds a {type(content).__name__}, not tensors by name')

    init_default_scope(cfg.get('default_scope', 'mmengine'))
    settings = cfg.model.copy()
    if 'backbone' in settings:  # the checkpoint holds the whole model
        settings.backbone = {**settings.backbone, 'init_cfg': None}
    model = revert_sync_batchnorm(MODELS.build(settings))
    task = _task(model)
    _fill(model, find_state_dict(content), checkpoint)
    classes, palette = name_classes(cfg, content.get('meta'), _num_classes(model, task))
    return TrainedModel(model.to(device).eval(), task, cfg, classes, palette, category_ids(cfg, classes))


def _task(model: nn.Module) -> str:
    for parent in type(model).__mro__:
        if parent.__name__ in TASKS:
            return TASKS[parent.__name__]
    raise ValueError(
        f'a {type(model).__name__} is neither a detector of MMDetection, nor a segmenter of MMSegmentation, nor an '
        'ImageClassifier of mmlocalmamba: there is nothing to draw its predictions with'
    )


def _fill(model: nn.Module, state: Mapping[str, Any], checkpoint: str) -> None:
    """Load tensors by name, or raise: nothing may keep its initial value."""
    check_weights(state, checkpoint, model.state_dict())
    tensors = {name.removeprefix('module.'): value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(f"{checkpoint} holds no tensors: want them by name, alone or under 'state_dict' or 'model'")
    kind = type(model).__name__
    try:
        keys = model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:  # PyTorch's own, which lists all shapes that differ
        raise ValueError(
            f'{checkpoint} does not fit the {kind} of this config. {error}\nGive the config that it was trained with'
        ) from error
    missing = [name for name in keys.missing_keys if not name.endswith('num_batches_tracked')]
    if missing:
        raise ValueError(
            f'{checkpoint} does not hold the whole {kind} of this config: {len(missing)} tensors would keep random '
            f'values ({_listing(missing)}). Give the config that it was trained with, or another checkpoint'
        )
    print_log(f'All tensors of the {kind} were loaded from {checkpoint}.', logger='current')
    if keys.unexpected_keys:
        print_log(
            f'{len(keys.unexpected_keys)} tensors of {checkpoint} have no place in this model and were left out: '
            f'{_listing(keys.unexpected_keys)}',
            logger='current',
            level=logging.WARNING,
        )


def _num_classes(model: nn.Module, task: str) -> int | None:
    """Ask the model's last head how many classes it tells apart; None if it does not say."""
    names = {
        'detection': ('roi_head.bbox_head', 'bbox_head', 'panoptic_head'),
        'segmentation': ('decode_head',),
        'classification': ('head',),
    }[task]
    for name in names:
        head: Any = model
        for part in name.split('.'):
            head = getattr(head, part, None)
        if isinstance(head, nn.ModuleList):  # the stages of a cascade
            head = head[-1]
        if isinstance(getattr(head, 'num_classes', None), int):
            return head.num_classes
    return None


def _listing(names: Sequence[str]) -> str:
    return ', '.join(names[:_SHOWN]) + (f', and {len(names) - _SHOWN} more' if len(names) > _SHOWN else '')
