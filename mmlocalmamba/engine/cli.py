"""What ``tools/train.py`` and ``tools/test.py`` share: arguments in the mm conventions, and the config they make."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.device import is_cuda_available, is_musa_available, is_npu_available
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from .allocator import keep_freed_memory
from .preflight import apply_pretrained


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
        'pretrained=<file or URL> gives the backbone its weights',
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
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if not Path(args.config).is_file():
        raise FileNotFoundError(f'there is no config file {args.config!r} (relative paths start at {Path.cwd()})')
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    if 'pretrained' in args.cfg_options:
        apply_pretrained(cfg, args.cfg_options['pretrained'])
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs') / Path(args.config).stem)
    return cfg


def use_amp(cfg: Config) -> None:
    """Turn automatic mixed precision on, as ``--amp`` asks for.

    Raises:
        ValueError: If there is no accelerator: MMEngine's mixed precision does not run on the CPU.
    """
    if not has_accelerator():
        raise ValueError('--amp needs a GPU, and PyTorch sees none here: leave it out to train in float32 on the CPU')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def fit_to_device(cfg: Config) -> None:
    """Let a config that trains in mixed precision run where there is only a CPU: in float32, and the log says so."""
    wrapper = cfg.get('optim_wrapper')
    if has_accelerator() or not isinstance(wrapper, Mapping) or wrapper.get('type') != 'AmpOptimWrapper':
        return
    settings: dict[str, Any] = {
        key: value for key, value in wrapper.items() if key not in ('loss_scale', 'dtype', 'use_fsdp')
    }
    cfg.optim_wrapper = {**settings, 'type': 'OptimWrapper'}
    print_log('No GPU: the config asks for mixed precision, this run uses float32 on the CPU.', logger='current')


def has_accelerator() -> bool:
    """Tell whether MMEngine can train in mixed precision here."""
    return is_cuda_available() or is_npu_available() or is_musa_available()


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


def join_processes(cfg: Config) -> None:
    """Let several processes run together where there is only a CPU: MMEngine's own launchers always take a GPU.

    Raises:
        ValueError: If a launcher other than 'pytorch' is asked for without a GPU.
    """
    if cfg.launcher == 'none' or has_accelerator():
        return
    if cfg.launcher != 'pytorch':
        raise ValueError(
            f'--launcher {cfg.launcher} needs GPUs, and PyTorch sees none here; --launcher pytorch does not'
        )
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
    if _spare_sync_bn(cfg.get('model')):
        print_log('No GPU: SyncBN becomes BN, whose statistics are those of each process alone.', logger='current')
    wrapper = {
        'type': 'MMDistributedDataParallel',
        'device_ids': None,  # MMEngine's default is a GPU
        'broadcast_buffers': False,
        'find_unused_parameters': cfg.get('find_unused_parameters', False),
    }
    cfg.model_wrapper_cfg = {**wrapper, **(cfg.get('model_wrapper_cfg') or {})}


def _spare_sync_bn(node: Any) -> bool:
    """Put BN in the place of SyncBN, which has no implementation for CPUs; tell whether there was any."""
    values = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    found = [_spare_sync_bn(value) for value in values]
    if isinstance(node, dict) and node.get('type') == 'SyncBN':
        node['type'] = 'BN'
        return True
    return any(found)


def make_runner(cfg: Config) -> Runner:
    """Build MMEngine's Runner, or the one that ``runner_type`` names; where there is only a CPU, keep freed memory."""
    if not has_accelerator():
        keep_freed_memory()
    join_processes(cfg)
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
