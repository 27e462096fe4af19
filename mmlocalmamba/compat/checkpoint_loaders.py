"""Makes MMEngine load checkpoints without running code that they bring: in runners, inferencers, ``init_detector``.

onedl-mmengine loads what ``weights_only=True`` refuses again with full unpickling, and so does PyTorch before 2.6 by
itself. A checkpoint also carries the text of its config, which is a Python program: MMEngine's inferencers run it where
they are given weights alone, and its Runner runs ``meta['config']`` on resuming.

These loaders take the place of MMEngine's, by its own ``CheckpointLoader.register_scheme``. ``torch.load`` itself stays
as it is. With ``TORCH_FORCE_WEIGHTS_ONLY_LOAD=0``, nothing of this holds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from .after_import import AfterImport

MODULE = 'mmengine.runner.checkpoint'

_OTHER_SCHEMES = {
    'load_from_pavi': ('pavi://',),
    'load_from_ceph': (r'(\S+\:)?s3://', r'(\S+\:)?petrel://'),
    'load_from_torchvision': ('modelzoo://', 'torchvision://'),
    'load_from_openmmlab': ('open-mmlab://', 'openmmlab://'),
    'load_from_mmcls': ('mmcls://',),
}
"""Loaders of MMEngine's that fetch a file in their own way and then load it in the process; prefixes as it has them."""

REFUSAL = (
    "raise ValueError('the config that a checkpoint carries is a program, and is not run. Give the config file too: "
    'DetInferencer(model=CONFIG, weights=CHECKPOINT). If you trust who made the checkpoint, set '
    "TORCH_FORCE_WEIGHTS_ONLY_LOAD=0 in the environment')\n"
)
"""Stands in place of that config: an error says what to do, as soon as someone runs it."""


def load_from_local(filename: str, map_location: Any) -> Any:
    """Load a local file for MMEngine."""
    from mmlocalmamba.models.weights.files import read_checkpoint

    return without_config(read_checkpoint(os.path.expanduser(filename), map_location))


def load_from_http(filename: str, map_location: Any = None, model_dir: str | None = None, progress: bool = True) -> Any:
    """Load a URL for MMEngine, from PyTorch's cache if it is there by its plain name, where MMEngine looks."""
    import torch

    from mmlocalmamba.models.weights.files import read_checkpoint

    folder = Path(model_dir) if model_dir else Path(torch.hub.get_dir()) / 'checkpoints'
    cached = folder / Path(urlparse(filename).path).name
    return without_config(read_checkpoint(cached if cached.is_file() else filename, map_location))


def without_config(checkpoint: Any) -> Any:
    """Take the config out of a checkpoint, in place, unless the user trusts files."""
    from .torch_load import trusts_files

    if not isinstance(checkpoint, dict) or trusts_files():
        return checkpoint
    meta, hub = checkpoint.get('meta'), checkpoint.get('message_hub')
    if isinstance(meta, dict):
        meta.pop('config', None)
        if 'cfg' in meta:
            meta['cfg'] = REFUSAL
    if isinstance(hub, dict) and isinstance(hub.get('runtime_info'), dict):
        hub['runtime_info'].pop('cfg', None)  # a resumed run keeps its own
    return checkpoint


def bridge(module: Any) -> None:
    """Register our loaders with MMEngine's module of checkpoints, once."""
    register = module.CheckpointLoader.register_scheme
    for name, prefixes in _OTHER_SCHEMES.items():
        loader = getattr(module, name)
        if not hasattr(loader, '__wrapped__'):
            setattr(module, name, _forced(loader))
            register(prefixes, getattr(module, name), force=True)
    register('', load_from_local, force=True)
    register(('http://', 'https://'), load_from_http, force=True)
    module.load_from_http = load_from_http  # which MMEngine's other loaders call


def _forced(loader: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a loader of MMEngine's, so that PyTorch loads in the safe way inside of it."""

    @wraps(loader)
    def load(*args: Any, **kwargs: Any) -> Any:
        with _weights_only():
            return without_config(loader(*args, **kwargs))

    return load


@contextmanager
def _weights_only() -> Iterator[None]:
    from .torch_load import FORCE_SAFE, refuse_unsafe_checkpoints

    before = os.environ.get(FORCE_SAFE)
    refuse_unsafe_checkpoints()
    try:
        yield
    finally:
        if before is None:
            del os.environ[FORCE_SAFE]
        else:
            os.environ[FORCE_SAFE] = before


FINDER = AfterImport({MODULE: bridge})


def install() -> None:
    """Register the loaders now if MMEngine's module is imported, else when it is."""
    FINDER.install()
