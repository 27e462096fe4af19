"""Does batch normalisation get more than one image to normalise over?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATA_SAMPLERS, MODELS

from .findings import Finding
from .settings import model_of, parts, registered, setting
from .sizes import num_samples

_BATCH_NORMS = ('BN', 'BN1d', 'BN2d', 'BN3d')
_SYNCHRONISED = ('SyncBN', 'MMSyncBN')
_WAYS_OUT = (
    "a norm that does not mix images (norm_cfg=dict(type='GN', num_groups=32) or dict(type='mmlocalmamba.LN2d')), or "
    'frozen statistics (norm_eval=True of a backbone)'
)
_WORLD_SIZES = ('WORLD_SIZE', 'SLURM_NTASKS', 'OMPI_COMM_WORLD_SIZE')


def single_images(cfg: Config) -> Iterator[Finding]:
    """Look for batches of one image, in the training of a model whose batch norm learns.

    A layer that pools its map to one pixel then has one value per channel, which PyTorch refuses: that is a problem.
    Elsewhere the statistics are those of single images, other than what testing uses: that is a note.
    """
    loader = cfg.get('train_dataloader')
    if not isinstance(loader, Mapping) or not cfg.get('train_cfg'):
        return
    norms = dict(_learning_norms(cfg))
    if not norms:
        return
    batch, processes = batch_size(loader), num_processes(cfg)
    if processes > 1 and all(kind in _SYNCHRONISED for kind, _ in norms.values()):
        return
    last = _last_batch(cfg, loader, batch, processes)
    pooled = [key for key, (_, pools) in norms.items() if pools]
    if batch == 1:
        yield _single_image(norms, pooled, processes)
    elif last == 1:
        key = (pooled or list(norms))[0]
        yield Finding(
            f'The last batch of an epoch has 1 image per process: {_count(cfg)} images in batches of '
            f'train_dataloader.batch_size={batch}{_per_process(processes)}. {_effect(key, pooled)} Set '
            f'train_dataloader.drop_last=True, another train_dataloader.batch_size, or {_WAYS_OUT}.',
            'problem' if pooled else 'note',
        )


def _single_image(norms: Mapping[str, tuple[str, bool]], pooled: list[str], processes: int) -> Finding:
    key = (pooled or list(norms))[0]
    kind = norms[key][0]
    if processes > 1:
        said = f'{processes} processes have 1 image each (train_dataloader.batch_size=1), and {kind} of {key} looks at '
        said += 'each process alone.'
        more = ' (over all GPUs: SyncBN)'
    else:
        said = f'train_dataloader.batch_size=1 gives {kind} of {key} a single image at a time.'
        more = ''
    return Finding(
        f'{said} {_effect(key, pooled)} Set train_dataloader.batch_size to 2 or more{more}, or use {_WAYS_OUT}.',
        'problem' if pooled else 'note',
    )


def _effect(key: str, pooled: list[str]) -> str:
    if pooled:
        return f'{key} pools maps to one pixel: one value per channel, which PyTorch refuses to normalise.'
    return f'What {key} normalises by in training is then not what it learns for testing.'


def _per_process(processes: int) -> str:
    return f' in each of {processes} processes' if processes > 1 else ''


def _count(cfg: Config) -> int | None:
    return num_samples('train_dataloader.dataset', cfg.train_dataloader.dataset, cfg)


def num_processes(cfg: Config) -> int:
    """Give the number of processes that train together, as the launcher's environment says."""
    if cfg.get('launcher', 'none') == 'none':
        return 1
    return next((int(os.environ[name]) for name in _WORLD_SIZES if os.environ.get(name, '').isdigit()), 1)


def _learning_norms(cfg: Config) -> Iterator[tuple[str, tuple[str, bool]]]:
    """Yield key, kind, and whether it pools to one pixel, of each part of the model with batch norm that learns."""
    for key, part in parts(model_of(cfg), 'model'):
        if 'type' not in part:
            continue
        cls = registered(MODELS, part, cfg)
        norm = setting(part, 'norm_cfg', cls)
        kind = norm.get('type') if isinstance(norm, Mapping) else None
        if kind in (*_BATCH_NORMS, *_SYNCHRONISED) and not setting(part, 'norm_eval', cls):
            yield key, (kind, _pools_to_a_pixel(part, cls))


def _pools_to_a_pixel(part: Mapping[str, Any], cls: type | None) -> bool:
    """Tell whether a head normalises a map that is pooled to one pixel, as PSPNet, UperNet and DeepLab do."""
    scales = setting(part, 'pool_scales', cls)
    if isinstance(scales, (list, tuple)):
        return 1 in scales
    return cls is not None and any(base.__name__ in ('ASPPHead', 'EncHead') for base in cls.__mro__)


def batch_size(loader: Mapping[str, Any]) -> int | None:
    """Give the images per batch in each process; None if the data loader does not state a number."""
    sampler = loader.get('batch_sampler')
    size = loader.get('batch_size')
    if size is None and isinstance(sampler, Mapping):
        size = sampler.get('batch_size')
    return size if isinstance(size, int) else None


def _last_batch(cfg: Config, loader: Mapping[str, Any], batch: int | None, processes: int) -> int | None:
    """Give the size of an epoch's last batch in each process; None if there is no last one, or it cannot be told."""
    sampler, batches = loader.get('sampler'), loader.get('batch_sampler')
    drops = any(isinstance(part, Mapping) and part.get('drop_last') for part in (loader, batches))
    if batch is None or drops or not isinstance(sampler, Mapping):
        return None
    cls = registered(DATA_SAMPLERS, sampler, cfg)
    count = num_samples('train_dataloader.dataset', loader['dataset'], cfg)
    if cls is None or cls.__name__ != 'DefaultSampler' or count is None:
        return None  # an endless sampler has no last batch
    return -(-count // processes) % batch
