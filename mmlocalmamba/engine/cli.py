"""What ``tools/train.py`` and ``tools/test.py`` share: arguments in the mm conventions, and the config they make."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmlocalmamba.models.weights.averages import WEIGHTS

from .device import has_accelerator
from .log import write_utf8
from .own_data import data_roots, move_data, set_num_classes
from .package_check import check_packages
from .padding_check import check_padding_value
from .variables import idle_assignment

_HOW_TO_LOAD = ('warm_start', 'source_directions', 'pretrained_weights')
"""Variables of a config that belong to ``pretrained``."""


def make_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments that training and testing share; ``config`` is the first positional."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='where logs and results go (default: work_dirs/<name of the config>)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        help='settings that override the config, as key=value; nested keys with dots, lists as key="[a,b]". '
        'pretrained=<file or URL> gives the backbone its weights; with warm_start=True, those of a related model; with '
        'pretrained_weights=raw, those that were not averaged. data_root=<folder> moves all data, num_classes=<number> '
        'sets all heads',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    # torch.distributed passes the rank under either spelling
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and apply what the shared arguments say.

    Args:
        args: From a parser of :func:`make_parser`.

    Returns:
        The config, with ``launcher`` and ``work_dir`` set.

    Raises:
        FileNotFoundError: If there is no such config file.
        ModuleNotFoundError: If the config needs an mm package that is not installed.
        ValueError: If an option fits nothing in the config, or the backbone skips padding, but images are padded with
            other than zeros.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if not Path(args.config).is_file():
        raise FileNotFoundError(f'there is no config file {args.config!r} (relative paths start at {Path.cwd()})')
    cfg = Config.fromfile(args.config)
    check_packages(cfg)
    _apply_variables(cfg, args.config)
    old_root = cfg.get('data_root')
    cfg.merge_from_dict(args.cfg_options)
    _apply_options(cfg, args.cfg_options, old_root)
    check_padding_value(cfg)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs') / Path(args.config).stem)
    return cfg


def _apply_variables(cfg: Config, path: str) -> None:
    """Give ``pretrained`` and ``data_root`` of a config file the effect that they have as options."""
    model, pretrained = cfg.get('model', {}), cfg.get('pretrained')
    if 'backbone' in model and not _mentions(model, pretrained):
        assigned = idle_assignment(cfg, path, 'pretrained', _init_cfg)
        if assigned is not None:
            apply_pretrained(cfg, assigned.value)
    roots = data_roots(cfg)
    if roots is not None and isinstance(cfg.get('data_root'), str) and cfg.data_root not in roots:
        assigned = idle_assignment(cfg, path, 'data_root', data_roots)
        if assigned is not None and (assigned.old in roots or (assigned.old is None and len(roots) == 1)):
            move_data(cfg, assigned.value, assigned.old)


def _apply_options(cfg: Config, options: Mapping[str, Any], old_root: Any) -> None:
    """Give the options that stand for several settings their effect."""
    if 'pretrained' in options or any(key in cfg for key in _HOW_TO_LOAD):
        apply_pretrained(cfg, cfg.get('pretrained'), **{key: cfg[key] for key in _HOW_TO_LOAD if key in cfg})
    if 'data_root' in options:
        move_data(cfg, options['data_root'], old_root if old_root in (data_roots(cfg) or ()) else None)
    if 'num_classes' in options:
        set_num_classes(cfg, options['num_classes'])


def _init_cfg(cfg: Config) -> Any:
    return cfg.get('model', {}).get('backbone', {}).get('init_cfg')


def _mentions(node: Any, value: Any) -> bool:
    """Tell whether a value is anywhere in a model's config; None is, where the backbone has no checkpoint."""
    if value is None:
        return not node['backbone'].get('init_cfg')
    values = node.values() if isinstance(node, Mapping) else node if isinstance(node, (list, tuple)) else ()
    return node == value or any(_mentions(each, value) for each in values)


def scale_learning_rate(cfg: Config) -> None:
    """Scale the learning rate with the total batch size, as ``--auto-scale-lr`` asks for.

    Raises:
        ValueError: If the config does not say which batch size its learning rate was chosen for.
    """
    if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
        raise ValueError(
            '--auto-scale-lr needs auto_scale_lr = dict(base_batch_size=<total batch of the lr>) in the config'
        )
    cfg.auto_scale_lr.enable = True


def apply_pretrained(
    cfg: Config,
    pretrained: str | None,
    warm_start: bool = False,
    source_directions: str | Sequence[Sequence[str]] | None = None,
    pretrained_weights: str | None = None,
) -> None:
    """Make the backbone start from a checkpoint: what ``--cfg-options pretrained=<file or URL>`` does.

    Configs name their weights in the top-level variable ``pretrained``. It is used while the file is read, so that an
    option given later would change the variable and nothing else; this puts it where the model looks. The same holds
    for ``warm_start``, ``source_directions`` and ``pretrained_weights``.

    Args:
        cfg: The whole config, changed in place.
        pretrained: File or URL; None for no weights.
        warm_start: Take the checkpoint of a related model too: see
            :func:`mmlocalmamba.models.weights.warm_start.warm_start_tensors`.
        source_directions: For a warm start, the checkpoint's directions where its tensors do not tell them.
        pretrained_weights: Of a checkpoint with two sets of weights, ``'averaged'`` or ``'raw'``: see
            :mod:`mmlocalmamba.models.weights.averages`.

    Raises:
        KeyError: If the config has no ``model.backbone``.
        ValueError: If a warm start or a choice of weights has no checkpoint, the choice is not known, or directions are
            given without a warm start.
    """
    if 'backbone' not in cfg.get('model', {}):
        raise KeyError(f'pretrained={pretrained!r} was given, but the config has no model.backbone to load it into')
    if warm_start and pretrained is None:
        raise ValueError('warm_start=True needs a checkpoint to start from: give pretrained=<file or URL> too')
    if source_directions is not None and not warm_start:
        raise ValueError('source_directions= are those of the checkpoint of a warm start: give warm_start=True too')
    if pretrained_weights is not None and (pretrained is None or pretrained_weights not in WEIGHTS):
        raise ValueError(
            f'pretrained_weights={pretrained_weights!r}: want {" or ".join(WEIGHTS)}, and pretrained=<file or URL> of '
            'a checkpoint with both'
        )
    cfg.pretrained = pretrained
    init_cfg: dict[str, Any] = {'type': 'Pretrained', 'checkpoint': pretrained}
    if warm_start:
        init_cfg['warm_start'] = True
    if source_directions is not None:
        init_cfg['source_directions'] = source_directions
    if pretrained_weights is not None:
        init_cfg['weights'] = pretrained_weights
    cfg.model.backbone.init_cfg = None if pretrained is None else init_cfg


def build_runner(cfg: Config) -> Runner:
    """Build MMEngine's Runner, or the one that ``runner_type`` names, with a log that holds any path.

    Raises:
        ValueError: If that is FlexibleRunner, and several processes are to run without an accelerator.
    """
    if cfg.get('runner_type') == 'FlexibleRunner' and cfg.get('launcher', 'none') != 'none' and not has_accelerator():
        raise ValueError(
            f"runner_type='FlexibleRunner' with launcher={cfg.launcher!r} needs a GPU per process: its strategies pass "
            "device_ids to DistributedDataParallel, which the CPU has none of. Leave runner_type out: MMEngine's "
            'Runner trains in several CPU processes'
        )
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    write_utf8(runner.logger)
    return runner
