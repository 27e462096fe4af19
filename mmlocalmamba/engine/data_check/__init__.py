"""Checks of a config and its data, before anything is built. One subject per file; they change nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mmengine.config import Config

from mmlocalmamba.datasets.bad_samples import check_policy

from .batch_norm import single_images
from .batches import fewer_than_a_batch
from .class_names import differing_splits, foreign_names, wrong_names
from .clean import clean_annotations
from .coco import coco_uses, splits_without_boxes, unsound_files
from .findings import Finding
from .heads import head_classes
from .maps import backbone_maps
from .masks import unfit_masks
from .paths import missing_paths, path_problem
from .sliding import sliding_windows

__all__ = ['check_data', 'clean_annotations', 'path_problem']


def check_data(cfg: Config, splits: Sequence[str]) -> list[str]:
    """Check that the data are there and sound, and that the model fits them. Changes nothing.

    Every annotation of COCO files is looked at, and some masks of segmentation data. Data elsewhere than in the file
    system, and types of data sets that are not known, are left alone.

    Args:
        cfg: The whole config.
        splits: Which of 'train', 'val' and 'test' will run.

    Returns:
        What the user should know, but need not change, for the log.

    Raises:
        FileNotFoundError: If a path is missing or a folder is empty. The message names the config key, the path and,
            where it can be told, the mistake, and the other problems after that.
        ValueError: If something else is wrong. The message names all problems, each with the keys to change.
    """
    check_policy(cfg.get('bad_samples', 'raise'))
    findings = list(_findings(cfg, splits))
    texts = {
        kind: [finding.text for finding in findings if finding.severity == kind]
        for kind in ('missing', 'problem', 'note')
    }
    problems = ''.join(f'\n- {text}' for text in dict.fromkeys(texts['problem']))
    if texts['missing']:
        missing = ''.join(f'\n  {text}' for text in texts['missing'])
        more = f'\nThese would stop it, too:{problems}' if problems else ''
        raise FileNotFoundError(f'The data that the config asks for are not there:{missing}{more}')
    if problems:
        raise ValueError(f'The config and its data do not fit:{problems}')
    return list(dict.fromkeys(texts['note']))


def _findings(cfg: Config, splits: Sequence[str]) -> Iterator[Finding]:
    """Yield what all checks find, what is wrong with the files first."""
    yield from missing_paths(cfg, splits)
    uses = coco_uses(cfg, splits)
    yield from unsound_files(uses)
    yield from wrong_names(uses)
    yield from splits_without_boxes(uses)
    yield from differing_splits(cfg, splits)
    yield from head_classes(cfg, splits, foreign_names(uses))
    yield from backbone_maps(cfg)
    yield from unfit_masks(cfg, splits)
    yield from sliding_windows(cfg)
    if 'train' in splits:
        yield from fewer_than_a_batch(cfg)
        yield from single_images(cfg)
