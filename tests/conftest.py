"""What all tests share: devices, seeds, and tests without what they need skipped by name."""

import os

os.environ.setdefault('OMP_NUM_THREADS', '1')

import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']))


DEVICES = [
    'cpu',
    *([pytest.param('cuda', marks=pytest.mark.gpu)] if torch.cuda.is_available() else []),
]
"""What tests run on that take a device: the CPU, and a GPU where there is one."""

OPTIONAL = ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'timm', 'torchvision', 'cv2', 'hypothesis', 'matplotlib', 'scipy')
"""Packages without which some tests cannot be imported. They are skipped then, and the reason names the package."""


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report = yield
    missing = re.search(r"No module named '(\w+)", str(report.longrepr)) if report.outcome == 'failed' else None
    if missing and missing[1] in OPTIONAL:
        report.outcome = 'skipped'
        report.longrepr = (str(collector.path), None, f'Skipped: {missing[1]} is not installed')
    return report


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """Run a test on the CPU, and again on a GPU where there is one; the latter is marked ``gpu``."""
    return request.param


@pytest.fixture
def on_each_device(device: str) -> Iterator[None]:
    """Make tensors and models on each device in turn, wherever a test does not say where."""
    with torch.device(device):
        yield


@pytest.fixture
def repo_dir() -> Path:
    return ROOT


@pytest.fixture
def shared_dir() -> Path:
    """The folder of reference data beside the repository."""
    folder = ROOT.parent / 'shared'
    if not folder.is_dir():
        pytest.skip(f'no reference data: {folder} is not there')
    return folder


@pytest.fixture(autouse=True)
def seed() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def nan_in_uninitialized_memory() -> Iterator[None]:
    """Fill what torch.empty returns with NaN, in C++ too, so that an element nobody writes is caught."""
    was_on, was_warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(was_on, warn_only=was_warn_only)


@pytest.fixture(autouse=True)
def no_leftovers_in_mmengine() -> Iterator[None]:
    """Forget MMEngine's process-wide instances (current scope, message hub, ...) after each test."""
    yield
    if 'mmengine' not in sys.modules:
        return
    from mmengine.logging import MMLogger
    from mmengine.utils import ManagerMixin

    for logger in MMLogger._instance_dict.values():
        for handler in logger.handlers:
            handler.close()
    for manager in subclasses(ManagerMixin):
        manager._instance_dict.clear()


def subclasses(parent: type) -> Iterator[type]:
    for child in parent.__subclasses__():
        yield child
        yield from subclasses(child)
