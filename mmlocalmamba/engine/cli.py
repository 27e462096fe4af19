"""What ``tools/train.py`` and ``tools/test.py`` share: arguments in the mm conventions, and the config they make."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from .device import has_accelerator
from .package_check import check_packages
from .padding_check import check_padding_value


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
        'pretrained=<file or URL> gives the backbone its weights; with warm_start=True, those of a related model',
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
        ValueError: If the backbone skips padding, but images are padded with other than zeros.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if not Path(args.config).is_file():
        raise FileNotFoundError(f'there is no config file {args.config!r} (relative paths start at {Path.cwd()})')
    cfg = Config.fromfile(args.config)
    check_packages(cfg)
    cfg.merge_from_dict(args.cfg_options)
    if 'pretrained' in args.cfg_options or 'warm_start' in cfg or 'source_directions' in cfg:
        apply_pretrained(cfg, cfg.get('pretrained'), cfg.get('warm_start', False), cfg.get('source_directions'))
    check_padding_value(cfg)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs') / Path(args.config).stem)
    return cfg


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
) -> None:
    """Make the backbone start from a checkpoint: what ``--cfg-options pretrained=<file or URL>`` does.

    Configs name their weights in the top-level variable ``pretrained``. It is used while the file is read, so that an
    option given later would change the variable and nothing else; this puts it where the model looks. The same holds
    for ``warm_start`` and ``source_directions``.

    Args:
        cfg: The whole config, changed in place.
        pretrained: File or URL; None for no weights.
        warm_start: Take the checkpoint of a related model too: see
            :func:`mmlocalmamba.models.weights.warm_start.warm_start_tensors`.
        source_directions: For a warm start, the checkpoint's directions where its tensors do not tell them.

    Raises:
        KeyError: If the config has no ``model.backbone``.
        ValueError: If a warm start has no checkpoint, or directions are given without a warm start.
    """
    if 'backbone' not in cfg.get('model', {}):
        raise KeyError(f'pretrained={pretrained!r} was given, but the config has no model.backbone to load it into')
    if warm_start and pretrained is None:
        raise ValueError('warm_start=True needs a checkpoint to start from: give pretrained=<file or URL> too')
    if source_directions is not None and not warm_start:
        raise ValueError('source_directions= are those of the checkpoint of a warm start: give warm_start=True too')
    cfg.pretrained = pretrained
    init_cfg: dict[str, Any] = {'type': 'Pretrained', 'checkpoint': pretrained}
    if warm_start:
        init_cfg['warm_start'] = True
    if source_directions is not None:
        init_cfg['source_directions'] = source_directions
    cfg.model.backbone.init_cfg = None if pretrained is None else init_cfg


def build_runner(cfg: Config) -> Runner:
    """Build MMEngine's Runner, or the one that ``runner_type`` names.

    Raises:
        ValueError: If that is FlexibleRunner, and several processes are to run without an accelerator.
    """
    if cfg.get('runner_type') == 'FlexibleRunner' and cfg.get('launcher', 'none') != 'none' and not has_accelerator():
        raise ValueError(
            f"runner_type='FlexibleRunner' with launcher={cfg.launcher!r} needs a GPU per process: its strategies pass "
            "device_ids to DistributedDataParallel, which the CPU has none of. Leave runner_type out: MMEngine's "
            'Runner trains in several CPU processes'
        )
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
