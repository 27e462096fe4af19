"""Is there a whole batch in the data?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mmengine.config import Config
from mmengine.registry import DATA_SAMPLERS

from .batch_norm import batch_size, num_processes
from .findings import Finding, plural
from .settings import registered
from .sizes import num_samples


def fewer_than_a_batch(cfg: Config) -> Iterator[Finding]:
    """Look for training data that make no batch where only whole ones are used: MMEngine then has nothing to train on.

    A smaller batch wants another learning rate, so it is for the user to choose.
    """
    loader = cfg.get('train_dataloader')
    if not isinstance(loader, Mapping) or not isinstance(loader.get('dataset'), Mapping) or not loader.get('drop_last'):
        return
    sampler, batch, processes = loader.get('sampler'), batch_size(loader), num_processes(cfg)
    cls = registered(DATA_SAMPLERS, sampler, cfg) if isinstance(sampler, Mapping) else None
    if cls is None or cls.__name__ != 'DefaultSampler' or batch is None:
        return  # an endless sampler always fills its batch
    count = num_samples('train_dataloader.dataset', loader['dataset'], cfg, enough=batch * processes)
    if count is None or -(-count // processes) >= batch:
        return
    each = -(-count // processes)
    where = f', {each} in each of {processes} processes' if processes > 1 else ''
    yield Finding(
        f'The training data have {plural(count, "image")}{where}, fewer than one batch of train_dataloader.batch_size='
        f'{batch}, and train_dataloader.drop_last=True leaves out what does not fill a batch: nothing would be trained '
        f'on. Set a smaller batch, such as train_dataloader.batch_size={_fitting(each)}; --auto-scale-lr fits the '
        'learning rate to it.'
    )


def _fitting(images: int) -> int:
    """Give the power of 2 that makes at least four batches out of some images, if it can be done: even, for Mixup."""
    return max(2, 1 << max(images // 4, 1).bit_length() - 1)
