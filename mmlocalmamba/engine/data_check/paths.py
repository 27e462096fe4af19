"""Are the data where the config says?"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .data_sets import data_sets, is_local, metrics
from .findings import Finding

_HOW_TO_GET = {
    'shapes': 'The demo data are generated: python tools/make_demo_data.py data/shapes',
    'coco': 'COCO 2017 (train2017, val2017, annotations) is at https://cocodataset.org/#download; if you have it '
    'elsewhere: mkdir -p data && ln -s /path/to/coco data/coco',
    'ade': 'ADE20K is at http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip, to be unzipped in '
    'data/ade; if you have it elsewhere: mkdir -p data && ln -s /path/to/ade data/ade',
    'imagenet': 'ImageNet-1k is at https://image-net.org/download; it wants one folder per class in train/ and val/; '
    'if you have it elsewhere: mkdir -p data && ln -s /path/to/imagenet data/imagenet',
}


def missing_paths(cfg: Config, splits: Sequence[str]) -> Iterator[Finding]:
    """Check that every path that the data loaders and evaluators of a config name is there.

    Args:
        cfg: The whole config.
        splits: Which of 'train', 'val' and 'test' will run.

    Yields:
        What is missing or empty: the config key, the path and, where it can be told, the mistake.
    """
    problems: dict[str, str] = {}
    for split in splits:
        for key, path in _named_paths(cfg, split):
            problem = path_problem(Path(path))
            if problem is not None:
                problems.setdefault(path, f'{key} = {path}\n    {problem}')
    for text in problems.values():
        yield Finding(text, 'missing')
    if problems:
        yield Finding(f'Relative paths start at {Path.cwd()}.', 'missing')
    for hint in _hints(problems):
        yield Finding(hint, 'missing')


def _named_paths(cfg: Config, split: str) -> Iterator[tuple[str, str]]:
    """Yield (config key, local path) for everything that a split reads."""
    for data_set in data_sets(cfg, split):
        if is_local(data_set.cfg):
            yield from _data_set_paths(data_set.key, data_set.cfg)
    for key, metric in metrics(cfg, split):
        if is_local(metric) and isinstance(metric.get('ann_file'), str):
            yield f'{key}.ann_file', metric['ann_file']


def _data_set_paths(key: str, part: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the paths of one data set."""
    root = part.get('data_root') or ''
    prefix = part.get('data_prefix') or {}
    named = {f'{key}.ann_file': part.get('ann_file')}
    if isinstance(prefix, Mapping):
        named.update({f'{key}.data_prefix.{name}': value for name, value in prefix.items()})
    else:
        named[f'{key}.data_prefix'] = prefix
    texts = {name: value for name, value in named.items() if isinstance(value, str) and value}
    if not texts and root:
        texts[f'{key}.data_root'] = ''
    for name, value in texts.items():
        path = os.path.join(root, value)
        if '://' not in path:
            yield name, path.rstrip('/')


def path_problem(path: Path) -> str | None:
    """Say what is wrong with a path that should be there.

    Args:
        path: A file or a folder.

    Returns:
        One or two sentences, or None if nothing is wrong.
    """
    if path.is_dir():
        inside = list(islice(path.iterdir(), 2))
        if not inside:
            return 'This folder is empty.'
        inner = path / path.name
        if inside == [inner] and inner.is_dir():  # an archive that brings its own folder, unpacked in one made for it
            return f'All that is in it is {inner}, one folder too deep: move everything in {inner} up.'
        return None
    if path.exists():
        return None
    there = next(parent for parent in path.parents if parent.exists())
    missing = path.relative_to(there)
    broken = there / missing.parts[0]
    if broken.is_symlink():
        return f'{broken} is a link to {os.readlink(broken)}, which is not there.'
    if not there.is_dir():
        return f'{there} is a file, not a folder.'
    deeper = sorted(there.glob(f'*/{missing}'))
    if deeper:
        extra = there / deeper[0].relative_to(there).parts[0]
        return f'It is at {deeper[0]}, one folder too deep: move everything in {extra} up.'
    if len(missing.parts) > 1 and (there / Path(*missing.parts[1:])).exists():
        return f'{there} holds {Path(*missing.parts[1:])} directly, but it should be inside {broken}.'
    names = sorted(entry.name for entry in there.iterdir())
    alike = difflib.get_close_matches(broken.name, names, n=1)
    if alike:
        return f'{there} has no {broken.name}, but it has {alike[0]}: renamed, or unpacked under another name?'
    shown = ', '.join(names[:6]) + (', ...' if len(names) > 6 else '')
    return f'{there} has no {broken.name}; it has: {shown or "nothing"}.'


def _hints(paths: Mapping[str, str]) -> list[str]:
    """Return how to get the data sets that paths belong to, told by the names of their folders."""
    parts = {part.lower() for path in paths for part in Path(path).parts}
    return [text for name, text in _HOW_TO_GET.items() if name in parts]
