"""Timing by comparison: two or more things are run in turn, in one process, and each round gives ratios.

The speed of a machine drifts with its temperature and with what else it does. The ratio of two runs that follow each
other drifts far less. What is stated is the median of the rounds' ratios, with their quartiles and the medians of
either side.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Times = dict[str, list[float]]
"""Seconds of every round, by the name of what was run."""


class UnavailableError(RuntimeError):
    """A measure cannot be taken on this machine; the message says why."""


@dataclass(frozen=True)
class Setup:
    """What the measures are taken with.

    Attributes:
        device: ``'cpu'`` or ``'cuda'``.
        threads: Threads of PyTorch.
        runs: Rounds of each comparison.
        batch: Images per batch.
        small: Whether to use small models and images, which only show that every measure works.
    """

    device: str = 'cpu'
    threads: int = 2
    runs: int = 15
    batch: int = 1
    small: bool = False

    @property
    def few_runs(self) -> int:
        """Rounds of what takes long."""
        return min(self.runs, 3)

    def wanted(self, bound: float) -> float | None:
        """Return a bound, or None where it does not apply: on small models."""
        return None if self.small else bound


@dataclass(frozen=True)
class Comparison:
    """The ratio of two measurements.

    Attributes:
        name: What was measured.
        base: What it is compared with.
        ratio: The median of the rounds' ratios.
        quartiles: The ratios' first and third quartile.
        value: The median of the measurements.
        base_value: The median of what they are compared with.
        unit: Unit of both, such as ``'ms'``.
        runs: Number of rounds.
        wanted: The ratio should be at most this.
        aim: The ratio would better be at most this.
    """

    name: str
    base: str
    ratio: float
    quartiles: tuple[float, float]
    value: float
    base_value: float
    unit: str
    runs: int
    wanted: float | None = None
    aim: float | None = None


@dataclass(frozen=True)
class Table:
    """Figures other than ratios. All rows have the same keys, which name the columns."""

    title: str
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Result:
    """What one measure gave.

    Attributes:
        title: What was measured, in a line.
        comparisons: Ratios.
        tables: Other figures.
        notes: What a reader of the figures should know.
    """

    title: str
    comparisons: Sequence[Comparison] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()


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


def compare(
    times: Times, name: str, base: str, wanted: float | None = None, aim: float | None = None, label: str | None = None
) -> Comparison:
    """Compare two of the functions that were timed in turn.

    Args:
        times: From :func:`interleaved`.
        name: What is compared.
        base: With what.
        wanted: The ratio should be at most this.
        aim: The ratio would better be at most this.
        label: What to call it. Default: ``name``.
    """
    ratios = [ours / theirs for ours, theirs in zip(times[name], times[base], strict=True)]
    return Comparison(
        name=label or name,
        base=base,
        ratio=statistics.median(ratios),
        quartiles=quartiles(ratios),
        value=1e3 * statistics.median(times[name]),
        base_value=1e3 * statistics.median(times[base]),
        unit='ms',
        runs=len(ratios),
        wanted=wanted,
        aim=aim,
    )


def compare_once(
    name: str, base: str, value: float, base_value: float, unit: str, wanted: float | None = None
) -> Comparison:
    """Compare two figures that need no repetition, such as counted operations or bytes."""
    ratio = value / base_value
    return Comparison(name, base, ratio, (ratio, ratio), value, base_value, unit, 1, wanted)


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """Return the first and the third quartile, interpolated linearly between the values."""
    if len(values) == 1:
        return values[0], values[0]
    first, _, third = statistics.quantiles(values, n=4, method='inclusive')
    return first, third
