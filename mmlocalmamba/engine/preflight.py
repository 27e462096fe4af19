"""Checks before training or testing starts: are the data where the config says, and which weights will be used."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmlocalmamba.compat.torch_load import check_checkpoint

_RELEASES = 'https://github.com/hunto/LocalMamba/releases/download/v1.0.0/'
PUBLISHED_WEIGHTS = {
    ('LocalVim', 'tiny'): _RELEASES + 'local_vim_tiny.ckpt',
    ('LocalVim', 'small'): _RELEASES + 'local_vim_small.ckpt',
    ('LocalVMamba', 'small'): _RELEASES + 'local_vssm_small.ckpt',
}

_HOW_TO_GET = {
    'shapes': 'The demo data are generated: python tools/make_demo_data.py data/shapes',
    'coco': 'COCO 2017 (train2017, val2017, annotations) is at https://cocodataset.org/#download; if you have it '
    'elsewhere: mkdir -p data && ln -s /path/to/coco data/coco',
    'ade': 'ADE20K is at http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip, to be unzipped in '
    'data/ade; if you have it elsewhere: mkdir -p data && ln -s /path/to/ade data/ade',
    'imagenet': 'ImageNet-1k is at https://image-net.org/download; it wants one folder per class in train/ and val/; '
    'if you have it elsewhere: mkdir -p data && ln -s /path/to/imagenet data/imagenet',
}


def check_data(cfg: Config, splits: Sequence[str]) -> None:
    """Check that every path that the data loaders and evaluators of a config name is there.

    Args:
        cfg: The whole config.
        splits: Which of 'train', 'val' and 'test' will run.

    Raises:
        FileNotFoundError: If a path is missing or a folder is empty. The message names the config key, the path and,
            where it can be told, the mistake.
    """
    problems: dict[str, str] = {}
    for split in splits:
        for key, path in _named_paths(cfg, split):
            problem = _problem(Path(path))
            if problem is not None:
                problems.setdefault(path, f'{key} = {path}\n    {problem}')
    if problems:
        raise FileNotFoundError(
            f'The data that the config asks for are not there (relative paths start at {Path.cwd()}):\n  '
            + '\n  '.join(problems.values())
            + ''.join(f'\n{hint}' for hint in _hints(problems))
        )


def check_weights(cfg: Config) -> None:
    """Check that the checkpoints that training will start from are there and safe to load.

    Args:
        cfg: The whole config; ``load_from`` and ``model.backbone.init_cfg`` are read.

    Raises:
        FileNotFoundError: If a local checkpoint is missing. The message names its config key.
        ValueError: If it holds objects that are refused for safety.
    """
    if cfg.get('load_from'):
        check_file('load_from', cfg.load_from)
    checkpoint = _pretrained(cfg)
    if checkpoint:
        check_file('model.backbone.init_cfg.checkpoint', checkpoint)


def check_file(key: str, checkpoint: str) -> None:
    """Check that a checkpoint is there and safe to load; a URL is left to the download.

    Args:
        key: Where it was named: a config key or a command line argument.
        checkpoint: File or URL.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds objects that are refused for safety.
    """
    if '://' in checkpoint:
        return
    if not Path(checkpoint).is_file():
        raise FileNotFoundError(
            f'{key} = {checkpoint}: there is no such file. {_problem(Path(checkpoint)) or "It is a folder."} '
            f'(Relative paths start at {Path.cwd()}.)'
        )
    check_checkpoint(checkpoint)


def starting_point(cfg: Config) -> str:
    """Return the sentence about the weights that training starts from, for the log."""
    if cfg.get('resume'):
        return f'Training resumes from {cfg.get("load_from") or "the last checkpoint in " + cfg.work_dir}.'
    if cfg.get('load_from'):
        return f'Training starts from the whole model in {cfg.load_from}.'
    checkpoint = _pretrained(cfg)
    if checkpoint:
        return f'The backbone starts from {checkpoint}.'
    backbone = cfg.model.get('backbone', {})
    kind = str(backbone.get('type')).split('.')[-1]
    if kind not in ('LocalVMamba', 'LocalVim'):
        return f'No pretrained weights were given: the backbone {kind} starts as its own defaults say.'
    arch = backbone.get('arch', 'tiny')
    url = PUBLISHED_WEIGHTS.get((kind, arch)) if isinstance(arch, str) else None
    published = f'Published weights of this size: {url}.' if url else 'No weights of this size were ever published.'
    return (
        f'The backbone {kind} (arch={arch!r}) trains FROM SCRATCH: no pretrained weights were given. {published} '
        'Give a checkpoint with: --cfg-options pretrained=<file or URL>'
    )


def apply_pretrained(cfg: Config, pretrained: str | None) -> None:
    """Make the backbone start from a checkpoint: what ``--cfg-options pretrained=<file or URL>`` does.

    Configs name their weights in the top-level variable ``pretrained``. It is used while the file is read, so that an
    option given later would change the variable and nothing else; this puts it where the model looks.

    Args:
        cfg: The whole config, changed in place.
        pretrained: File or URL; None for no weights.

    Raises:
        KeyError: If the config has no ``model.backbone``.
    """
    if 'backbone' not in cfg.get('model', {}):
        raise KeyError(f'pretrained={pretrained!r} was given, but the config has no model.backbone to load it into')
    cfg.pretrained = pretrained
    cfg.model.backbone.init_cfg = None if pretrained is None else {'type': 'Pretrained', 'checkpoint': pretrained}


def _pretrained(cfg: Config) -> str | None:
    """Return the checkpoint that the backbone's init_cfg names."""
    init_cfg = cfg.model.get('backbone', {}).get('init_cfg')
    return init_cfg.get('checkpoint') if isinstance(init_cfg, Mapping) else None


def _named_paths(cfg: Config, split: str) -> Iterator[tuple[str, str]]:
    """Yield (config key, local path) for everything that a split reads."""
    loader = cfg.get(f'{split}_dataloader')
    if loader is not None:
        yield from _dataset_paths(f'{split}_dataloader.dataset', loader.dataset)
    evaluator = cfg.get(f'{split}_evaluator')
    evaluators = evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]
    for metric in evaluators:
        if isinstance(metric, Mapping) and _is_local(metric) and isinstance(metric.get('ann_file'), str):
            yield f'{split}_evaluator.ann_file', metric['ann_file']


def _dataset_paths(key: str, dataset: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the paths of a dataset, or of those inside a wrapper such as RepeatDataset or ConcatDataset."""
    if 'dataset' in dataset:
        yield from _dataset_paths(f'{key}.dataset', dataset['dataset'])
    for index, inner in enumerate(dataset.get('datasets', [])):
        yield from _dataset_paths(f'{key}.datasets[{index}]', inner)
    if not _is_local(dataset):
        return
    root = dataset.get('data_root') or ''
    prefix = dataset.get('data_prefix') or {}
    named = {f'{key}.ann_file': dataset.get('ann_file')}
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


def _is_local(part: Mapping[str, Any]) -> bool:
    backend = part.get('backend_args') or {}
    return backend.get('backend', 'local') in ('local', 'disk')


def _problem(path: Path) -> str | None:
    """Say what is wrong with a path that should be there; None if nothing is."""
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
