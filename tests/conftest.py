import os

os.environ.setdefault('OMP_NUM_THREADS', '1')

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']))


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
