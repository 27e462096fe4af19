"""Timing by comparison: two or more things are run in turn, in one process, and each round gives ratios.

The speed of a machine drifts with its temperature and with what else it does. The ratio of two runs that follow each
other drifts far less. What is stated is the median of the rounds' ratios, with their quartiles and the medians of
either side.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmlocalmamba.analysis.measuring import Times, quartiles


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
