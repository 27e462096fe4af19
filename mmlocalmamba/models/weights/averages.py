"""Choosing between the averaged and the raw weights of a checkpoint that holds both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

WEIGHTS = ('averaged', 'raw')

_AVERAGED_BESIDE_RAW = (('state_dict_ema', 'state_dict'), ('model_ema', 'model'))
"""Names of the two sets in the files of timm and of VMamba's training."""

_EMA_HOOK = 'ema_state_dict'
_MODULE = 'module.'


def choose_weights(checkpoint: Mapping[str, Any], which: str, source: str | Path) -> Mapping[str, Any]:
    """Give one of the two sets of weights that a checkpoint holds.

    MMEngine's EMAHook saves the averaged weights under 'state_dict', and the raw ones, which the optimizer works on,
    under 'ema_state_dict'. timm saves the averaged ones under 'state_dict_ema', VMamba's training under 'model_ema'.

    Args:
        checkpoint: What the file holds.
        which: ``'averaged'`` or ``'raw'``.
        source: What the checkpoint comes from, for messages.

    Returns:
        Tensors by name.

    Raises:
        ValueError: If ``which`` is neither, or the checkpoint does not hold both sets.
    """
    if which not in WEIGHTS:
        raise ValueError(f'want weights {" or ".join(map(repr, WEIGHTS))}, got {which!r}')
    hook = checkpoint.get(_EMA_HOOK)
    if isinstance(hook, Mapping) and isinstance(checkpoint.get('state_dict'), Mapping):
        if which == 'averaged':
            return checkpoint['state_dict']
        return {name.removeprefix(_MODULE): value for name, value in hook.items() if name.startswith(_MODULE)}
    for averaged, raw in _AVERAGED_BESIDE_RAW:
        if isinstance(checkpoint.get(averaged), Mapping) and isinstance(checkpoint.get(raw), Mapping):
            return checkpoint[averaged if which == 'averaged' else raw]
    raise ValueError(
        f'{which} weights were asked for, but {source} holds one set of weights, not averaged ones beside raw ones: '
        'leave the choice out to take what there is'
    )
