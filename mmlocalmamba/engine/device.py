"""Fits a run to the device that there is: mixed precision on a GPU, float32 and gloo on the CPU."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import is_cuda_available, is_musa_available, is_npu_available
from mmengine.logging import print_log

from .data_check.batch_norm import num_processes

SECONDS_TO_END = 30
"""How long a failed process waits for the others, which may never come, before it ends without them."""


def has_accelerator() -> bool:
    """Tell whether MMEngine can train in mixed precision here."""
    return is_cuda_available() or is_npu_available() or is_musa_available()


def use_amp(cfg: Config) -> None:
    """Turn automatic mixed precision on, as ``--amp`` asks for: on a CPU, bfloat16 where autocast chooses it.

    Args:
        cfg: The whole config, changed in place.
    """
    if has_accelerator():
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
        return
    _use_wrapper(cfg, 'mmlocalmamba.CpuAmpOptimWrapper')
    _say('--amp without a GPU: the forward uses bfloat16 on the CPU where autocast chooses it.')


def fit_precision(cfg: Config) -> None:
    """Let a config that trains in mixed precision run where there is only a CPU: in float32, and the log says so.

    Args:
        cfg: The whole config, changed in place; with a GPU it stays as it is.
    """
    wrapper = cfg.get('optim_wrapper')
    if has_accelerator() or not isinstance(wrapper, Mapping) or wrapper.get('type') != 'AmpOptimWrapper':
        return
    _use_wrapper(cfg, 'OptimWrapper')
    _say('No GPU: the config asks for mixed precision, this run uses float32 on the CPU (--amp: bfloat16).')


def _use_wrapper(cfg: Config, kind: str) -> None:
    """Replace the optimizer's wrapper, without the settings of mixed precision on a GPU."""
    settings = {
        key: value for key, value in cfg.optim_wrapper.items() if key not in ('loss_scale', 'dtype', 'use_fsdp')
    }
    cfg.optim_wrapper = {**settings, 'type': kind}


def _say(text: str) -> None:
    """Log a sentence in the first process; MMEngine does not know yet which that is."""
    if os.environ.get('RANK', '0') == '0':
        print_log(text, logger='current')


def fit_launcher(cfg: Config) -> None:
    """Let a config run in several processes where there is only a CPU.

    The log says so. SyncBN becomes BN, and the log says that too; the model's wrapper is told to use no GPU.

    Args:
        cfg: The whole config, changed in place; with a GPU, or without a launcher, it stays as it is.
    """
    if has_accelerator() or cfg.get('launcher', 'none') == 'none':
        return
    _say(f'No GPU: {num_processes(cfg)} processes share this CPU and exchange gradients by gloo.')
    if _replace_sync_bn(cfg.get('model')):
        _say('No GPU: SyncBN becomes BN, whose statistics are those of each process alone.')
    wrapper = {
        'type': 'MMDistributedDataParallel',
        'device_ids': None,  # MMEngine's default is a GPU
        'broadcast_buffers': False,
        'find_unused_parameters': cfg.get('find_unused_parameters', False),
    }
    cfg.model_wrapper_cfg = {**wrapper, **(cfg.get('model_wrapper_cfg') or {})}


def _replace_sync_bn(node: Any) -> bool:
    """Put BN in the place of SyncBN, which has no implementation for CPUs; tell whether there was any."""
    values = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    found = [_replace_sync_bn(value) for value in values]
    if isinstance(node, dict) and node.get('type') == 'SyncBN':
        node['type'] = 'BN'
        return True
    return any(found)


def start_process_group(launcher: str) -> None:
    """Let several processes find each other where there is only a CPU: MMEngine's own launchers always take a GPU.

    With a GPU, MMEngine's Runner does it. Either way the group is ended when this process ends, also after an error:
    see :func:`end_process_group`. Without a launcher, there is nothing to do.

    Args:
        launcher: As ``--launcher`` says.

    Raises:
        ValueError: If a launcher other than 'pytorch' is asked for without a GPU.
    """
    if launcher == 'none':
        return
    if not has_accelerator() and launcher != 'pytorch':
        raise ValueError(f'--launcher {launcher} needs GPUs, and PyTorch sees none here; --launcher pytorch does not')
    atexit.unregister(end_process_group)
    atexit.register(end_process_group)
    if not has_accelerator() and not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')


def end_process_group() -> None:
    """End the group of processes, if there is one: threads that it leaves behind can abort a process that exits.

    After an error, the others may wait in an operation that this process will never join, and ending the group would
    wait for them. Then the system ends this process after ``SECONDS_TO_END``, so that the launcher learns of it.
    """
    if not torch.distributed.is_initialized():
        return
    if getattr(sys, 'last_value', None) is not None and hasattr(signal, 'alarm'):  # an error was reported
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS_TO_END)
    torch.distributed.destroy_process_group()
    if hasattr(signal, 'alarm'):
        signal.alarm(0)
