"""From a trained supernet to the searched model: its directions, its architecture and its weights (paper 4.2)."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from torch import Tensor, nn

from mmlocalmamba.directions import canonical_order, load_directions, parse_directions
from mmlocalmamba.models import LocalVim, LocalVMamba, VMamba
from mmlocalmamba.registry import MODELS

from .hook import relative_entropy
from .supernet import search_mixers

TOP_K = 4
"""Directions per block of all published models."""

UNDECIDED = 0.999
"""Entropy, relative to that of equal probabilities, above which a block has not decided anything."""

SEARCHABLE = (LocalVMamba, LocalVim, VMamba)
"""The backbones that have ``search=True``."""

_ALPHA = '.merge.alpha'


def top_directions(blocks: Sequence[Mapping[str, float]], count: int = TOP_K) -> tuple[tuple[str, ...], ...]:
    """Choose the most probable directions of each block.

    Args:
        blocks: For each block, probabilities by direction, from :func:`mmlocalmamba.search.probabilities`.
        count: Directions to choose per block.

    Returns:
        For each block, its directions in canonical order: h, v, then windows by size, each before its flip.

    Raises:
        ValueError: If a block has fewer candidates than ``count``, or a probability that is not finite.

    Example:
        >>> top_directions([{'h': 0.1, 'h_flip': 0.2, 'w2': 0.4, 'v': 0.3}], 2)
        (('v', 'w2'),)
    """
    for index, block in enumerate(blocks):
        if not 1 <= count <= len(block):
            raise ValueError(
                f'cannot choose {count} directions in block {index}, which has {len(block)} candidates '
                f'({", ".join(block)}): choose at least 1 and at most all of them'
            )
        broken = [name for name, value in block.items() if not math.isfinite(value)]
        if broken:
            raise ValueError(
                f'the probabilities of {", ".join(broken)} in block {index} are not finite: the search has diverged, '
                'so choose from an earlier checkpoint'
            )
    return tuple(canonical_order(sorted(block, key=block.__getitem__, reverse=True)[:count]) for block in blocks)


def undecided_blocks(blocks: Sequence[Mapping[str, float]]) -> list[int]:
    """Give the numbers of the blocks whose candidates are as good as equally probable: the choice is left to chance.

    Args:
        blocks: For each block, probabilities by direction, from :func:`mmlocalmamba.search.probabilities`.
    """
    return [index for index, block in enumerate(blocks) if relative_entropy([dict(block)]) > UNDECIDED]


def export_weights(model: nn.Module, directions: Sequence[Sequence[str]]) -> dict[str, Tensor]:
    """Cut the state dict of the searched model out of a supernet's.

    The parameters of the chosen directions are taken in the given order; alpha is left out. The searched model adds its
    branches up, where the supernet mixed normalised ones, so these weights are a start for training, not its end.

    Args:
        model: The supernet: a backbone, or any model around it.
        directions: The chosen names, one list per block.

    Returns:
        Tensors by name, which fit the same model built with ``search=False`` and these directions.

    Raises:
        ValueError: If there is not one list per block, or a name is none of a block's candidates.
    """
    mixers = search_mixers(model)
    if len(directions) != len(mixers):
        raise ValueError(f'got directions for {len(directions)} blocks, but the supernet has {len(mixers)}')
    places = {}
    for (name, mixer), chosen in zip(mixers.items(), directions, strict=True):
        unknown = [direction for direction in chosen if direction not in mixer.directions]
        if unknown:
            raise ValueError(f'{name} has no candidate {", ".join(unknown)}: its are {", ".join(mixer.directions)}')
        places[name] = torch.tensor([mixer.directions.index(direction) for direction in chosen])
    weights = {}
    for name, value in model.state_dict().items():
        owner, _, parameter = name.rpartition('.')
        if owner in places and parameter in mixers[owner].PER_DIRECTION:
            value = value[places[owner].to(value.device)]
        if not name.endswith(_ALPHA):
            weights[name] = value.clone()
    return weights


def write_directions(
    path: str | Path, directions: Sequence[Sequence[str]], blocks: Sequence[Mapping[str, float]] | None = None
) -> None:
    """Write directions to a JSON file, which ``arch=dict(..., directions='<path>')`` takes.

    Args:
        path: The file.
        directions: One list of names per block.
        blocks: The probabilities that they were chosen by, kept in the file for those who read it.
    """
    tables: dict[str, list[Any]] = {'directions': [list(block) for block in directions]}
    if blocks is not None:
        tables['probabilities'] = [{name: round(value, 6) for name, value in block.items()} for block in blocks]
    # One block per line, for people to read.
    lines = [
        f'  "{key}": [\n' + ',\n'.join(f'    {json.dumps(block)}' for block in table) + '\n  ]'
        for key, table in tables.items()
    ]
    Path(path).write_text('{\n' + ',\n'.join(lines) + '\n}\n', encoding='utf-8')


def searched_config(cfg: Config, directions: str | Path) -> Config:
    """Make the config of a searched model out of one of a supernet, or of any model with one of our backbones.

    The backbone keeps its sizes and gets its directions from a file; ``search`` and
    :class:`~mmlocalmamba.search.DirectionSearchHook` are dropped, and so are checkpoints that the supernet started
    from and the folder that it was trained in. See :func:`mmlocalmamba.search.target.keep_data` for the data.

    Args:
        cfg: The whole config; it is left as it is.
        directions: The JSON file.

    Returns:
        A new config.

    Raises:
        ValueError: If ``model.backbone`` is none of our backbones, or the file does not fit its depth.
    """
    cfg = copy.deepcopy(cfg)
    backbone: ConfigDict = cfg.model.get('backbone') or ConfigDict()
    kind = MODELS.get(str(backbone.get('type'))) if backbone else None
    if kind not in SEARCHABLE:
        names = ', '.join(each.__name__ for each in SEARCHABLE)
        raise ValueError(f'want a config whose model.backbone is one of {names}, got {backbone.get("type")!r}')
    sizes = backbone.get('arch', 'tiny')
    if isinstance(sizes, str):
        sizes = kind.arch_zoo.get(sizes, sizes)
    if isinstance(sizes, str):
        raise ValueError(f'{kind.__name__} has no arch {sizes!r}: choose from {sorted(kind.arch_zoo)}')
    depth = sizes['depth'] if 'depth' in sizes else sum(sizes['depths'])
    parse_directions(load_directions(directions), depth)
    sizes = {key: list(value) if isinstance(value, tuple) else value for key, value in sizes.items()}
    was_supernet = backbone.pop('search', False)
    if was_supernet:
        backbone.pop('init_cfg', None)
        for key in ('pretrained', 'warm_start', 'source_directions', 'pretrained_weights'):
            cfg.pop(key, None)
        cfg.load_from, cfg.resume = None, False
        _drop_rate_of_alpha(cfg)
    cfg.pop('work_dir', None)  # which a config has that a run wrote; another run would overwrite that one's checkpoints
    backbone.pop('directions', None)  # VMamba takes them beside arch too
    backbone.arch = {**sizes, 'directions': str(directions)}
    hooks = cfg.get('custom_hooks') or []
    cfg.custom_hooks = [hook for hook in hooks if str(hook['type']).rpartition('.')[2] != 'DirectionSearchHook']
    return cfg


def _drop_rate_of_alpha(cfg: Config) -> None:
    """Drop the learning rate that a search gives to alpha, which the searched model has not got."""
    rates = (cfg.get('optim_wrapper') or {}).get('paramwise_cfg', {}).get('lr_mult', {})
    for name in [name for name in rates if name in _ALPHA]:
        del rates[name]
