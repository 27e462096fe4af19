"""Makes a small file for others out of a checkpoint: its weights, and the words that explain them."""

from __future__ import annotations

import hashlib
import io
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mmlocalmamba.models.weights.damage import damage
from mmlocalmamba.models.weights.files import read_checkpoint, state_dict_of

from .checkpoint_files import write_whole

_DIGITS = 8
"""Digits of the hash in a name, as PyTorch and OpenMMLab have them."""

_AVERAGED = ('ema_state_dict', 'state_dict_ema', 'model_ema')


class Published(NamedTuple):
    """A file for others.

    Attributes:
        path: Where it is.
        before: Bytes of the checkpoint.
        after: Bytes of the file.
        tensors: How many it has.
        weights: Which set they are: ``'averaged'``, ``'raw'``, or ``'only'`` where the checkpoint has one set.
    """

    path: Path
    before: int
    after: int
    tensors: int
    weights: str


def publish(checkpoint: str | Path, out: str | Path, which: str | None = None) -> Published:
    """Write the weights of a checkpoint, its classes and the text of its config to a file named by its hash.

    Optimizer, schedules, logs and whatever else it has are left out. PyTorch loads the file with ``weights_only=True``
    and nothing registered. It is read back and compared before this returns.

    Args:
        checkpoint: A local file.
        out: Path of the new one without its hash; ``.pth`` may be left out. ``zoo/mine`` gives
            ``zoo/mine-0123abcd.pth``, with the start of its SHA-256.
        which: ``'averaged'`` or ``'raw'`` weights of a checkpoint that has both. Default: the averaged ones, which
            testing takes, too.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        OSError: If the file cannot be written.
        ValueError: If the checkpoint is damaged or not safe to load, or holds no weights or bad ones; if ``which`` is
            given and it has one set of weights.
        RuntimeError: If the new file does not hold what was written.
    """
    content = read_checkpoint(checkpoint)
    both = isinstance(content, Mapping) and any(key in content for key in _AVERAGED)
    chosen = (which or 'averaged') if both else which
    tensors = state_dict_of(content, checkpoint, chosen)
    # A view would take all of its storage along.
    state = OrderedDict((name, value.detach().cpu().clone().contiguous()) for name, value in tensors.items())
    buffer = io.BytesIO()
    torch.save({'meta': _meta(content), 'state_dict': state}, buffer)
    written = buffer.getvalue()
    digest = hashlib.sha256(written).hexdigest()[:_DIGITS]
    path = Path(f'{str(out).removesuffix(".pth")}-{digest}.pth')
    write_whole(path, written)
    _read_back(path, state)
    return Published(path, Path(checkpoint).stat().st_size, len(written), len(state), chosen or 'only')


def _meta(content: Any) -> dict[str, Any]:
    """Give what explains the weights: the classes, and the text of the config."""
    meta = content.get('meta') if isinstance(content, Mapping) else None
    if not isinstance(meta, Mapping):
        return {}
    kept = {key: _plain(meta[key]) for key in ('dataset_meta', 'CLASSES', 'PALETTE') if meta.get(key) is not None}
    return {**kept, 'cfg': meta['cfg']} if isinstance(meta.get('cfg'), str) else kept


def _plain(value: Any) -> Any:
    """Turn arrays, and dicts and lists of other kinds, into Python's own, which PyTorch always loads."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, 'tolist'):
        return value.tolist()
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _read_back(path: Path, state: Mapping[str, torch.Tensor]) -> None:
    with _nothing_registered():
        found = torch.load(path, map_location='cpu', weights_only=True)['state_dict']
    same = found.keys() == state.keys() and all(
        value.dtype == found[name].dtype and torch.equal(value, found[name]) for name, value in state.items()
    )
    problem = damage(path) or (None if same else 'its tensors differ')
    if problem is not None:
        raise RuntimeError(f'{path} does not hold what was written to it: {problem}. Check the disk, and run again')


@contextmanager
def _nothing_registered() -> Iterator[None]:
    """Make PyTorch load as in a program that does not know this package."""
    registered = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        yield
    finally:
        torch.serialization.add_safe_globals(registered)
