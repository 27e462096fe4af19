"""The machine that measures run on: versions, processor, instruction sets, threads, the scan's back end."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import mmlocalmamba
from mmlocalmamba.ops import backend_for
from mmlocalmamba.ops.backends import cpu
from timing import Setup

PACKAGES = ('torch', 'torchvision', 'timm', 'triton', 'mamba-ssm')


def environment(setup: Setup) -> dict[str, Any]:
    """Describe this machine: versions, processor, instruction sets, threads, the scan's back end."""
    found: dict[str, Any] = {'mmlocalmamba': mmlocalmamba.__version__, 'python': platform.python_version()}
    found |= {name: _version(name) for name in PACKAGES}
    reason = cpu.why_not('cpu')
    found |= {
        'system': f'{platform.system()} {platform.machine()}',
        'cpu': _cpu_name(),
        'cores': os.cpu_count(),
        'threads': torch.get_num_threads(),
        'instruction sets of the C++ scan': cpu.library().instruction_sets() if reason is None else reason,
        "torch's instruction set": torch.backends.cpu.get_cpu_capability(),
        'load before': round(os.getloadavg()[0], 2) if hasattr(os, 'getloadavg') else None,
    }
    if setup.device == 'cuda':
        found |= {'gpu': torch.cuda.get_device_name(), 'cuda': torch.version.cuda}
    return found | {"scan's back end": backend_for(setup.device)}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    information = Path('/proc/cpuinfo')
    lines = information.read_text(encoding='utf-8').splitlines() if information.exists() else []
    names = (line.split(':', 1)[1].strip() for line in lines if line.startswith('model name'))
    return next(names, platform.processor() or platform.machine())


def environment_text(found: Mapping[str, Any]) -> str:
    """Format an environment as text; packages that are not installed are left out."""
    shown = {key: ', '.join(value) if isinstance(value, list) else value for key, value in found.items()}
    width = max(map(len, shown))
    return '\n'.join(f'{key.ljust(width)}  {value}' for key, value in shown.items() if value is not None) + '\n'
