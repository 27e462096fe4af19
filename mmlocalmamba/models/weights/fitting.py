"""Fitting the tensors of a checkpoint to a backbone, with every one of them accounted for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from mmlocalmamba.compat.engine import print_log

from ..layers.position import resize_table, square_grid
from .input_channels import fit_input_channels
from .kinds import kind_of
from .published_names import is_published
from .values import check_weights

if TYPE_CHECKING:
    from ..backbones.base import ScanBackbone

_OUTPUT_NORM = re.compile(r'norm\d+\.(weight|bias)')
_ALPHA = '.merge.alpha'
_SHOWN = 8


class Fitted(NamedTuple):
    """Tensors that fit a backbone.

    Attributes:
        tensors: All of the backbone's tensors by name. Those of output norms that the checkpoint lacks are its own.
        taken: How many of them the checkpoint gave.
        notes: What was changed or left out on the way, for the log.
    """

    tensors: dict[str, Tensor]
    taken: int
    notes: list[str]


def fit_tensors(backbone: ScanBackbone, tensors: Mapping[str, Tensor], source: str | Path) -> Fitted:
    """Fit a checkpoint's tensors to a backbone, or raise.

    Published names are translated. Position tables are resized. A first convolution of RGB images is adapted to the
    backbone's channels. Left out are a classification head, stages or blocks that were not built, and norms of outputs
    that were not asked for. Norms of outputs that the checkpoint lacks keep their values.

    Args:
        backbone: The backbone. It is not changed.
        tensors: The checkpoint's tensors, by their names in the backbone, ours or published.
        source: What they come from, for messages.

    Raises:
        ValueError: If a tensor is missing, unexpected or of another shape, or if a supernet meets fixed directions. The
            message names the tensors.
    """
    own, owner = backbone.state_dict(), type(backbone).__name__
    notes, kind = [], kind_of(tensors)
    if is_published(tensors):
        tensors = backbone.convert_published(tensors)
        notes.append('published names translated')
    heads = {name for name in tensors if name.startswith('head.')}
    if heads:
        notes.append(f'{len(heads)} tensors of the classification head left out')
    fitting = {name: value for name, value in tensors.items() if name not in heads}
    notes += _resize_positions(fitting, own)
    notes += fit_input_channels(fitting, own, owner, source)
    outside = [name for name in fitting if name not in own and _is_outside(name, own)]
    if outside:
        notes.append(f'{len(outside)} tensors of parts that were not built left out')
        fitting = {name: value for name, value in fitting.items() if name not in set(outside)}
    _account(own, fitting, owner, source, kind)
    kept = [name for name in own if name not in fitting]
    if kept:
        notes.append(f'{len(kept)} tensors of output norms that it lacks stay as they are')
    return Fitted({**own, **fitting}, len(fitting), notes)


def fit_state_dict(backbone: ScanBackbone, state_dict: dict[str, Any], prefix: str) -> None:
    """Replace the backbone's part of a model's state dict, in place, by tensors that fit; the backbone's load hook.

    PyTorch and MMEngine hand a copy of the caller's dict to each module. MMEngine loads whole models (``load_from``,
    ``resume``, testing) without ``strict``, and would mention tensors that do not fit in the log at most.

    Args:
        backbone: The backbone.
        state_dict: Tensors of a whole model.
        prefix: Name of the backbone in it, such as ``'backbone.'``.

    Raises:
        ValueError: If there is no tensor for the backbone, they do not fit, or they are no weights.
    """
    given = {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}
    owner = type(backbone).__name__
    if not given:
        place = f', which this model keeps under {prefix!r}' if prefix else ''
        raise ValueError(
            f'the checkpoint holds no tensor for the {owner}{place}. If it is of the backbone alone, or a published '
            'file, it cannot start a whole model (load_from, resume, testing); start the backbone with it: '
            '--cfg-options pretrained=<file or URL>, or in the config '
            "model.backbone.init_cfg=dict(type='Pretrained', checkpoint=<file or URL>)"
        )
    check_weights({prefix + name: value for name, value in given.items()}, 'the checkpoint')
    fitted = fit_tensors(backbone, given, 'the checkpoint')
    for name in given:
        del state_dict[prefix + name]
    state_dict.update({prefix + name: value for name, value in fitted.tensors.items()})
    if fitted.notes:
        print_log(f'Loading the {owner}: {"; ".join(fitted.notes)}', logger='current')


def _resize_positions(tensors: dict[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Resize the position table in place if it was made for another image size; returns what there is to note."""
    table, target = tensors.get('pos_embed'), own.get('pos_embed')
    if table is None or target is None or table.shape[-1] != target.shape[-1] or table.shape == target.shape:
        return []
    side, new_side = square_grid(table.shape[-2]), square_grid(target.shape[-2])
    tensors['pos_embed'] = resize_table(table, (side, side), (new_side, new_side))
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


def _account(
    own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], owner: str, source: str | Path, kind: str | None
) -> None:
    """Raise unless every tensor of the backbone is given, in its shape, and nothing else is.

    The message says of which kind of backbone the checkpoint is, where that is another.
    """
    missing = [name for name in own if name not in tensors and not _OUTPUT_NORM.fullmatch(name)]
    unexpected = [name for name in tensors if name not in own]
    shapes = [
        f'{name} is {tuple(value.shape)}, want {tuple(own[name].shape)}'
        for name, value in tensors.items()
        if name in own and value.shape != own[name].shape
    ]
    kinds = {'missing': missing, 'unexpected': unexpected, 'of another shape': shapes}
    problems = '; '.join(f'{len(names)} {kind}: {_listing(names)}' for kind, names in kinds.items() if names)
    if any(name.endswith(_ALPHA) for name in unexpected):
        raise ValueError(
            f'{source} is a supernet of the direction search, with all candidate directions in every block, but this '
            f'{owner} is none (search=False). Export its chosen directions first: tools/search/export_directions.py '
            f'writes weights that fit. Tensors {problems}'
        )
    if any(name.endswith(_ALPHA) and name.replace(_ALPHA, '.A_log') in tensors for name in missing):
        raise ValueError(
            f'{source} is of a model with fixed directions, but this {owner} is a supernet (search=True), which starts '
            f'from scratch or goes on from a checkpoint of its own search. Tensors {problems}'
        )
    if problems:
        other = f': it is a {kind}' if kind not in (None, owner) else ''
        raise ValueError(
            f'{source} does not fit this {owner}{other}. Tensors {problems}. '
            'Give the arch that the checkpoint was trained with, or another checkpoint'
        )


def _listing(names: Iterable[str]) -> str:
    names = list(names)
    return ', '.join(names[:_SHOWN]) + (f', and {len(names) - _SHOWN} more' if len(names) > _SHOWN else '')
