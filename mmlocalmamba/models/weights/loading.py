"""Starting a backbone from a checkpoint: what ``init_cfg=dict(type='Pretrained', ...)`` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from mmlocalmamba.compat.engine import print_log

from .files import read_state_dict
from .fitting import fit_tensors
from .warm_start import warm_start_tensors

if TYPE_CHECKING:
    from ..backbones.base import ScanBackbone


def load_backbone(
    backbone: ScanBackbone,
    source: str | Path,
    prefix: str | None = None,
    warm_start: bool = False,
    source_directions: str | Sequence[Sequence[str]] | None = None,
    weights: str | None = None,
) -> None:
    """Load a checkpoint into a backbone, or raise and change nothing.

    Takes the published files as they are, and checkpoints of this package: a bare backbone, a classifier, a detector or
    a segmenter. What is changed and left out on the way, :func:`~mmlocalmamba.models.weights.fitting.fit_tensors` says.

    Args:
        backbone: One of our backbones.
        source: File or URL.
        prefix: Name of the backbone inside the checkpoint. Default: ``'backbone.'`` if there is one.
        warm_start: Take a checkpoint of other directions, without SCAttn or of a deeper model too: see
            :func:`~mmlocalmamba.models.weights.warm_start.warm_start_tensors`.
        source_directions: For a warm start, the checkpoint's directions where its tensors do not tell them.
        weights: Of a file with two sets, ``'averaged'`` or ``'raw'``. Default: those under 'state_dict' or 'model',
            which are the averaged ones in a file that MMEngine's EMAHook has saved.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError: If the download of a URL fails.
        ValueError: If the file holds no tensors, or they do not fit. The message names the tensors.
    """
    tensors = select_backbone(read_state_dict(source, weights), prefix, source)
    if warm_start:
        tensors = warm_start_tensors(backbone, tensors, source, source_directions)
    fitted = fit_tensors(backbone, tensors, source)
    backbone.load_state_dict(fitted.tensors)
    message = f'{fitted.taken}/{fitted.taken} backbone tensors loaded from {source}'
    if weights is not None:
        message += f', its {weights} weights'
    print_log(message + (f' ({"; ".join(fitted.notes)})' if fitted.notes else ''), logger='current')


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
        start = ', '.join(islice(state, 8))
        raise ValueError(f'no tensor of {source} starts with prefix={prefix!r}; its first ones are {start}')
    return dict(state)
