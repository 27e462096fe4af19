"""Starting a hierarchical backbone from one with other directions, without SCAttn, or with more blocks.

LocalVMamba-T's weights were never released. VMamba-T's have its sizes, and LocalVMamba-S's its widths.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from mmlocalmamba.compat.engine import print_log
from mmlocalmamba.directions import (
    CROSS_SCAN,
    load_directions,
    nearest_direction,
    parse_directions,
    published_directions,
)

from ..layers.ss2d import SS2D
from .published_names import is_published, vmamba_from_published

if TYPE_CHECKING:
    from ..backbones.base import ScanBackbone

_BLOCK = re.compile(r'stages\.(\d+)\.blocks\.(\d+)\.')
_ATTN = 'mixer.merge.attn.'
_ALPHA = 'mixer.merge.alpha'
_LOCAL_VMAMBAS = ('local_vmamba_tiny', 'local_vmamba_small')


class _Pair(NamedTuple):
    """A block of the backbone, and the block of the checkpoint that it starts from.

    Attributes:
        target: The one's prefix, such as ``'stages.2.blocks.3.'``.
        source: The other's.
        directions: The checkpoint's direction that each of the backbone's directions starts from, by name.
        places: Their places among the checkpoint's directions.
    """

    target: str
    source: str
    directions: dict[str, str]
    places: list[int]


def warm_start_tensors(
    backbone: ScanBackbone,
    tensors: Mapping[str, Tensor],
    source: str | Path,
    source_directions: str | Sequence[Sequence[str]] | None = None,
) -> dict[str, Tensor]:
    """Make tensors that fit a LocalVMamba or VMamba out of those of a related model.

    - Of a stage with more blocks than the backbone's, blocks are taken at even distances, the first and last included.
    - Each direction starts from the block's nearest one: see :func:`mmlocalmamba.directions.nearest_direction`.
    - Where the checkpoint has no SCAttn and the backbone has, its gates start constant: their last layers are zero, so
      that each gate is 1/2. The scan's output is doubled, by C and D, which it is linear in, for each such gate. So
      with the checkpoint's directions the backbone computes just what the checkpoint does. The other layers of SCAttn
      keep the backbone's values. SCAttn that the backbone lacks is left out.
    - A supernet keeps its alpha.

    The log says what each block starts from.

    Args:
        backbone: The backbone. It is not changed.
        tensors: The checkpoint's tensors, by their names in its backbone, ours or published.
        source: What they come from, for messages.
        source_directions: The checkpoint's directions, one list per block, or the path of a JSON file. Default: without
            SCAttn, VMamba's in every block; with it, those published for LocalVMamba of as many blocks.

    Returns:
        Tensors in our names. They are still to be accounted for: nothing says that shapes fit.

    Raises:
        ValueError: If the backbone or the checkpoint has no stages of blocks, the checkpoint is a supernet or has fewer
            blocks than the backbone in a stage, or its directions are not known or do not fit its tensors.
    """
    if is_published(tensors):
        tensors = vmamba_from_published(tensors)
    own = backbone.state_dict()
    depths, wanted = _depths(tensors), _depths(own)
    if not depths or not wanted:
        raise ValueError(
            f'warm_start=True is for LocalVMamba and VMamba, whose blocks stand in stages, and for their checkpoints; '
            f'this is a {type(backbone).__name__} and {source}'
        )
    if any(name.endswith(_ALPHA) for name in tensors):
        raise ValueError(f'{source} is a supernet of the direction search: export its chosen directions first')
    directions = _source_directions(tensors, depths, source, source_directions)
    started = {name: value for name, value in tensors.items() if not _BLOCK.match(name)}
    lines = []
    for pair in _pairs(backbone.directions, wanted, directions, depths, source):
        block = _block(pair, tensors, own)
        started.update({pair.target + name: value for name, value in block.items()})
        lines.append(_describe(pair, tensors, own))
    print_log(
        f'Warm start of the {type(backbone).__name__} from {source}. What is outside of blocks is taken as it is.\n'
        + '\n'.join(lines),
        logger='current',
    )
    return started


def _depths(tensors: Mapping[str, Tensor]) -> list[int]:
    """Count the blocks of each stage by their tensors' names."""
    blocks = {(int(match[1]), int(match[2])) for match in map(_BLOCK.match, tensors) if match}
    stages = max((stage for stage, _ in blocks), default=-1) + 1
    return [sum(stage == i for stage, _ in blocks) for i in range(stages)]


def _source_directions(
    tensors: Mapping[str, Tensor],
    depths: Sequence[int],
    source: str | Path,
    given: str | Sequence[Sequence[str]] | None,
) -> tuple[tuple[str, ...], ...]:
    """Find out the directions of every block of the checkpoint."""
    total = sum(depths)
    published = {len(block): block for block in map(published_directions, _LOCAL_VMAMBAS)}
    if given is not None:
        directions = parse_directions(load_directions(given) if isinstance(given, str) else given, total)
    elif not any(_ATTN in name for name in tensors):
        directions = (CROSS_SCAN,) * total
    elif total in published:
        directions = published[total]
    else:
        raise ValueError(
            f'{source} has SCAttn and {total} blocks, so its directions are not known: give source_directions=, one '
            'list of names per block or the path of a JSON file'
        )
    blocks = [f'stages.{i}.blocks.{j}.' for i, depth in enumerate(depths) for j in range(depth)]
    for block, names in zip(blocks, directions, strict=True):
        found = len(tensors[f'{block}mixer.D'])
        if found != len(names):
            raise ValueError(
                f'{block}mixer of {source} has {found} directions, not {", ".join(names)}: give source_directions='
            )
    return directions


def _pairs(
    wanted: Sequence[Sequence[str]],
    wanted_depths: Sequence[int],
    directions: Sequence[Sequence[str]],
    depths: Sequence[int],
    source: str | Path,
) -> Iterator[_Pair]:
    """Pair each block of the backbone with one of the checkpoint."""
    for stage, depth in enumerate(wanted_depths):
        available = depths[stage] if stage < len(depths) else 0
        if available < depth:
            raise ValueError(
                f'stage {stage} of {source} has {available} blocks, fewer than the {depth} that are to start from them'
            )
        for block, chosen in enumerate(evenly(available, depth)):
            names = wanted[sum(wanted_depths[:stage]) + block]
            candidates = directions[sum(depths[:stage]) + chosen]
            nearest = {name: nearest_direction(name, candidates) for name in names}
            yield _Pair(
                f'stages.{stage}.blocks.{block}.',
                f'stages.{stage}.blocks.{chosen}.',
                nearest,
                [candidates.index(name) for name in nearest.values()],
            )


def evenly(available: int, count: int) -> list[int]:
    """Choose ``count`` of ``available`` indices at even distances, the first and last included.

    Example:
        >>> evenly(27, 9)
        [0, 3, 7, 10, 13, 16, 20, 23, 26]
    """
    if count == 1:
        return [0]
    return [(2 * i * (available - 1) + count - 1) // (2 * (count - 1)) for i in range(count)]  # rounded half up


def _block(pair: _Pair, tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Make the tensors of one block, by their names in it."""
    mine = _inside(own, pair.target)
    block = _inside(tensors, pair.source)
    for name in SS2D.PER_DIRECTION:
        block[f'mixer.{name}'] = block[f'mixer.{name}'][pair.places]
    block = {name: value for name, value in block.items() if name in mine or not name.startswith(_ATTN)}
    if _ALPHA in mine:
        block[_ALPHA] = mine[_ALPHA]
    for name in [name for name in mine if name.startswith(_ATTN) and name not in block]:
        block[name] = torch.zeros_like(mine[name]) if '_select.' in name else mine[name]
        if name.endswith('_select.weight'):  # this gate is 1/2 everywhere
            _double_output(block)
    return block


def _double_output(block: dict[str, Tensor]) -> None:
    """Double what the scan puts out, exactly: it is linear in C and D."""
    d_state = block['mixer.A_log'].shape[-1]
    projection = block['mixer.x_proj_weight'].clone()
    projection[:, -d_state:] *= 2  # the last rows give C
    block['mixer.x_proj_weight'], block['mixer.D'] = projection, 2 * block['mixer.D']


def _describe(pair: _Pair, tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """Say in a line what a block starts from."""
    mine, theirs = (
        {name for name in _inside(part, stem) if name.startswith(_ATTN)}
        for part, stem in ((own, pair.target), (tensors, pair.source))
    )
    if not mine:
        attn = 'SCAttn left out' if theirs else ''
    else:
        attn = 'SCAttn taken' if mine <= theirs else 'SCAttn with constant gates' if not theirs else 'SCAttn in part'
    directions = ', '.join(f'{name} from {other}' for name, other in pair.directions.items())
    return f'  {pair.target[:-1]} from {pair.source[:-1]}: {directions}' + (f'; {attn}' if attn else '')


def _inside(tensors: Mapping[str, Tensor], stem: str) -> dict[str, Tensor]:
    """Give the tensors whose names start with a prefix, without it."""
    return {name.removeprefix(stem): value for name, value in tensors.items() if name.startswith(stem)}
