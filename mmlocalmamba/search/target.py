"""The data of a search in the config that its directions are put in."""

from __future__ import annotations

from mmengine.config import Config

from mmlocalmamba.engine.data_check.data_sets import data_sets, metrics
from mmlocalmamba.engine.data_check.heads import head_counts
from mmlocalmamba.engine.data_check.settings import model_of
from mmlocalmamba.engine.own_data import data_roots, set_num_classes

_SPLITS = ('train', 'val', 'test')
_OF_THE_DATA = (
    'data_root',
    'data_prefix',
    'ann_file',
    'metainfo',
    'img_suffix',
    'seg_map_suffix',
    'reduce_zero_label',
)
"""Settings of a data set that say which data these are, not what is done with them."""


def keep_data(target: Config, search: Config) -> str:
    """Train a target on the data of the search, where both have the same kind of data sets.

    The target takes the search's folders, files and classes. Its pipelines, batches and schedule stay its own.

    Args:
        target: The whole config that the directions are put in, changed in place.
        search: The whole config that was searched with.

    Returns:
        What was taken, or why nothing was, for the user.
    """
    taken = [_take(target, search, split) for split in _SPLITS]
    if not any(taken):
        return 'The target keeps its own data: they are of another kind than those of the search.'
    _take_root(target, search)
    counts = {count for key, count in head_counts(model_of(search), 'model', search) if ' + ' not in key}
    classes = ''
    if len(counts) == 1:
        (count,) = counts
        set_num_classes(target, count)
        classes = f' and {count} classes'
    roots = ', '.join(data_roots(target) or ()) or 'no common folder'
    return (
        f"The target has the search's data ({roots}){classes}. Others: --cfg-options data_root=<folder> "
        'num_classes=<number> of tools/train.py'
    )


def _take(target: Config, search: Config, split: str) -> bool:
    """Take one split's data over, if both configs have one data set of the same class for it."""
    ours, theirs = list(data_sets(target, split)), list(data_sets(search, split))
    if len(ours) != 1 or len(theirs) != 1 or ours[0].cls is None or ours[0].cls is not theirs[0].cls:
        return False
    for key in _OF_THE_DATA:
        ours[0].cfg.pop(key, None)
        if key in theirs[0].cfg:
            ours[0].cfg[key] = theirs[0].cfg[key]
    files = {metric['type']: metric['ann_file'] for _, metric in metrics(search, split) if 'ann_file' in metric}
    for _, metric in metrics(target, split):
        if metric['type'] in files:
            metric['ann_file'] = files[metric['type']]
    return True


def _take_root(target: Config, search: Config) -> None:
    """Let the variable say what the data sets do: a config that is based on this one may change it."""
    target.pop('data_root', None)
    if 'data_root' in search:
        target.data_root = search.data_root
