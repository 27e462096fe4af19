"""What speed and memory are measured with: rounds that take turns, and the memory of a process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

STATUS = Path('/proc/self/status')

Times = dict[str, list[float]]
"""Seconds of every round, by the name of what was run."""


class UnavailableError(RuntimeError):
    """A measure cannot be taken on this machine; the message says why."""


def synchronize(device: str) -> None:
    """Wait until a GPU has finished its work; on the CPU there is nothing to wait for."""
    if torch.device(device).type == 'cuda':
        torch.cuda.synchronize()


def seconds(function: Callable[[], Any], device: str = 'cpu') -> float:
    """Run a function once and return the seconds that it takes."""
    synchronize(device)
    start = time.perf_counter()
    function()
    synchronize(device)
    return time.perf_counter() - start


def interleaved(
    functions: Mapping[str, Callable[[], Any]], runs: int, device: str = 'cpu', warm_up: int | None = None
) -> Times:
    """Time functions in turn: each once per round.

    The speed of a machine drifts with its temperature and with what else it does. What is run in turn drifts together.

    Args:
        functions: What to run, by name.
        runs: Number of rounds that count.
        device: Where the work is done.
        warm_up: Number of rounds before, which do not count. Default: 2, but no more than ``runs``.

    Returns:
        For each function the seconds of every round.

    Raises:
        ValueError: If there is nothing to run, or no round.
    """
    if runs < 1 or not functions:
        raise ValueError(f'timing wants at least one function and one run, got {len(functions)} and {runs}')
    for _ in range(min(2, runs) if warm_up is None else warm_up):
        for function in functions.values():
            function()
    times: Times = {name: [] for name in functions}
    for _ in range(runs):
        for name, function in functions.items():
            times[name].append(seconds(function, device))
    return times


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """Return the first and the third quartile, interpolated linearly between the values."""
    if len(values) == 1:
        return values[0], values[0]
    first, _, third = statistics.quantiles(values, n=4, method='inclusive')
    return first, third


def resident(field: str) -> int:
    """Return this process's resident memory in bytes: now (``'VmRSS'``) or at its peak (``'VmHWM'``).

    Raises:
        UnavailableError: On a system that does not report it.
    """
    # Not getrusage: Linux lets a new process start with the peak of the one that started it.
    lines = STATUS.read_text(encoding='utf-8').splitlines() if STATUS.exists() else []
    for line in lines:
        if line.startswith(f'{field}:'):
            return int(line.split()[1]) * 1024
    raise UnavailableError('peak memory on the CPU is read from /proc/self/status, which Linux alone has')
