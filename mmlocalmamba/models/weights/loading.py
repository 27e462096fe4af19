"""Loading pretrained weights into a backbone, with every key accounted for."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine.dist import barrier, get_rank
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor

from mmlocalmamba.compat.torch_load import register_safe_globals

from ..layers.position import resize_table, square_grid
from .published_names import is_published

_OUTPUT_NORM = re.compile(r'norm\d+\.(weight|bias)')
_ALPHA = '.merge.alpha'
_SHOWN = 8


def init_backbone(backbone: BaseModule, default_init: Callable[[], None]) -> None:
    """Initialise a backbone as its ``init_cfg`` says; ``Pretrained`` goes through :func:`load_backbone`."""
    cfg = backbone.init_cfg
    if isinstance(cfg, Mapping) and cfg.get('type') == 'Pretrained':
        load_backbone(backbone, cfg['checkpoint'], cfg.get('prefix'))
        backbone.is_init = True
    else:
        default_init()


def load_backbone(backbone: BaseModule, source: str | Path, prefix: str | None = None) -> None:
    """Load a checkpoint into a backbone, or raise.

    Takes the published files as they are, and checkpoints of this package (a bare backbone, a classifier, a detector or
    a segmenter). Position tables are resized. Classification heads are left out, stages that were not built too, and
    output norms that the file lacks stay as they are.

    Args:
        backbone: A LocalVMamba or LocalVim.
        source: File or URL.
        prefix: Name of the backbone inside the checkpoint. Default: ``'backbone.'`` if there is one.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file holds no tensors, or they do not fit. The message names the keys.
    """
    state = select_backbone(read_state_dict(source), prefix, source)
    if is_published(state):
        state = backbone.convert_published(state)
    heads = {name for name in state if name.startswith('head.')}
    own = backbone.state_dict()
    state = {name: value for name, value in state.items() if name not in heads}
    notes = [f'{len(heads)} tensors of the classification head left out'] if heads else []
    notes += _resize_positions(state, own)
    skipped = [name for name in state if name not in own and _is_outside(name, own)]
    for name in skipped:
        del state[name]
    if skipped:
        notes.append(f'{len(skipped)} tensors of parts that were not built left out')
    _account(own, state, type(backbone).__name__, source)
    backbone.load_state_dict(state, strict=False)
    wanted = [name for name in own if name in state or not _OUTPUT_NORM.fullmatch(name)]
    message = f'{len(state)}/{len(wanted)} backbone tensors loaded from {source}'
    print_log(message + (f' ({"; ".join(notes)})' if notes else ''), logger='current')


def read_state_dict(source: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a file or URL, without unpickling anything that could run code.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds other objects, or no state dict.
    """
    path = _download(str(source)) if str(source).startswith(('http://', 'https://')) else Path(source)
    if not path.is_file():
        raise FileNotFoundError(
            f'the checkpoint {str(source)!r} is no file: check the path (relative ones start at {Path.cwd()}), or give '
            'the URL of published weights'
        )
    register_safe_globals()
    try:
        data = torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f'{source} holds objects that are not loaded for safety, or is no checkpoint: save its state dict alone '
            f'with torch.save(dict(state_dict=...), file). torch says: {error}'
        ) from error
    for key in ('state_dict', 'model'):
        if isinstance(data, Mapping) and isinstance(data.get(key), Mapping):
            data = data[key]
            break
    if not isinstance(data, Mapping) or not any(isinstance(value, Tensor) for value in data.values()):
        raise ValueError(f"{source} holds no state dict: want tensors by name, alone or under 'state_dict' or 'model'")
    return {name.removeprefix('module.'): value for name, value in data.items() if isinstance(value, Tensor)}


def _download(url: str) -> Path:
    """Fetch a URL once into torch's cache; the first process goes first."""
    path = Path(torch.hub.get_dir()) / 'checkpoints' / Path(urlparse(url).path).name
    if get_rank() != 0:
        barrier()
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path))
    if get_rank() == 0:
        barrier()
    return path


def select_backbone(state: Mapping[str, Tensor], prefix: str | None, source: str | Path) -> dict[str, Tensor]:
    """Cut the backbone's tensors out of a whole model's; all of them if it is a bare backbone.

    Raises:
        ValueError: If a prefix was given and no tensor has it.
    """
    wanted = 'backbone.' if prefix is None else prefix.rstrip('.') + '.'
    chosen = {name.removeprefix(wanted): value for name, value in state.items() if name.startswith(wanted)}
    if chosen:
        return chosen
    if prefix is not None:
        raise ValueError(f'no tensor of {source} starts with prefix={prefix!r}; they start like {_listing(state)}')
    return dict(state)


def _resize_positions(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Resize the position table in place if it was made for another image size; returns what there is to note."""
    table, target = state.get('pos_embed'), own.get('pos_embed')
    if table is None or target is None or table.shape[-1] != target.shape[-1] or table.shape == target.shape:
        return []
    side, new_side = square_grid(table.shape[-2]), square_grid(target.shape[-2])
    state['pos_embed'] = resize_table(table, (side, side), (new_side, new_side))
    return [f'position table resized from {side} x {side} to {new_side} x {new_side}']


def _is_outside(name: str, own: Mapping[str, Tensor]) -> bool:
    """Tell whether a tensor belongs to a stage or block that was not built, or to an output not asked for."""
    if _OUTPUT_NORM.fullmatch(name):
        return True
    match = re.match(r'(stages|layers)\.(\d+)\.(downsample\.)?', name)
    if match is None:
        return False
    kind, index, downsample = match.groups()
    built = max((int(n.split('.')[1]) for n in own if n.startswith(f'{kind}.')), default=-1)
    return built >= 0 and (int(index) > built or (int(index) == built and downsample is not None))


def _account(own: Mapping[str, Tensor], state: Mapping[str, Tensor], owner: str, source: str | Path) -> None:
    """Raise unless every tensor of the backbone is in the state, in its shape, and nothing else is."""
    problems = []
    missing = [name for name in own if name not in state and not _OUTPUT_NORM.fullmatch(name)]
    if missing:
        problems.append(f'{len(missing)} missing: {_listing(missing)}')
    unexpected = [name for name in state if name not in own]
    if unexpected:
        problems.append(f'{len(unexpected)} unexpected: {_listing(unexpected)}')
    problems += _other_shapes(own, state)
    if any(name.endswith(_ALPHA) for name in unexpected):
        raise ValueError(_supernet_message(owner, source, problems))
    if problems:
        raise ValueError(
            f'{source} does not fit this {owner}. Tensors {"; ".join(problems)}. '
            f'Give the arch that the checkpoint was trained with, or another checkpoint'
        )


def refuse_misfit(backbone: BaseModule, state: Mapping[str, Tensor], prefix: str) -> None:
    """Raise if tensors for a backbone have other shapes, or are those of a supernet and the backbone is none.

    Each backbone calls it from ``_load_from_state_dict``: MMEngine loads whole models (``load_from``, ``resume``,
    testing) without ``strict``, where such tensors would be left out with no more than a line in the log.

    Args:
        backbone: A LocalVMamba or LocalVim.
        state: Tensors of a whole model.
        prefix: Name of the backbone in it, such as ``'backbone.'``.

    Raises:
        ValueError: The message names the tensors.
    """
    own, owner, source = backbone.state_dict(), type(backbone).__name__, 'The state dict'
    given = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    shapes = _other_shapes(own, given)
    if any(name.endswith(_ALPHA) and name not in own for name in given):
        raise ValueError(_supernet_message(owner, source, shapes))
    fixed = [name.removesuffix('A_log') + _ALPHA[1:] for name in given if name.endswith('.A_log')]
    if any(name in own and name not in given for name in fixed):
        raise ValueError(
            f'{source} is of a model with fixed directions, but this {owner} is a supernet (search=True), which starts '
            'from scratch or goes on from a checkpoint of its own search'
        )
    if shapes:
        raise ValueError(
            f'{source} does not fit this {owner}. Tensors {"; ".join(shapes)}. Give the arch and img_size that the '
            'checkpoint was trained with; only init_cfg resizes position tables'
        )


def _other_shapes(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Say which tensors have another shape, as a list of one sentence; an empty list if none has."""
    shapes = [
        f'{name} is {tuple(value.shape)}, want {tuple(own[name].shape)}'
        for name, value in state.items()
        if name in own and value.shape != own[name].shape
    ]
    return [f'{len(shapes)} of another shape: {_listing(shapes)}'] if shapes else []


def _supernet_message(owner: str, source: str | Path, problems: list[str]) -> str:
    tensors = f' Tensors {"; ".join(problems)}' if problems else ''
    return (
        f'{source} is a supernet of the direction search, with all candidate directions in every block, but this '
        f'{owner} is none (search=False). Export its chosen directions first: tools/search/export_directions.py '
        f'writes weights that fit.{tensors}'
    )


def _listing(names: Iterable[Any]) -> str:
    names = [str(name) for name in names]
    return ', '.join(names[:_SHOWN]) + (f', and {len(names) - _SHOWN} more' if len(names) > _SHOWN else '')
