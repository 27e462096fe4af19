"""Launching Triton kernels, and the sizes that they are launched with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import triton.language as tl
from torch import Tensor

S = TypeVar('S')

Tuner = Callable[[Any, tuple[int, ...]], Any]
"""Takes an operation's default settings and the sizes of a problem; gives the settings to use."""

_tuners: dict[str, Tuner] = {}


@dataclass(frozen=True)
class Launch:
    """One launch of a kernel.

    Attributes:
        kernel: The Triton function.
        grid: Number of programs along each axis.
        arguments: What it is called with, in its own order.
        constants: Its compile-time constants, by name.
        warps: Warps per program.
    """

    kernel: Any
    grid: tuple[int, ...]
    arguments: tuple[Any, ...]
    constants: dict[str, Any]
    warps: int

    def run(self) -> None:
        """Run it on the device of its tensors, which need not be the current one; nothing waits for it."""
        with torch.cuda.device_of(next(x for x in self.arguments if isinstance(x, Tensor))):
            self.kernel[self.grid](*self.arguments, **self.constants, num_warps=self.warps)


_run: Callable[[Launch], None] = Launch.run


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, warps: int, **constants: Any) -> None:
    """Launch a kernel; a grid without programs launches none."""
    if 0 not in grid:
        _run(Launch(kernel, grid, arguments, constants, warps))


@contextmanager
def intercepted(run: Callable[[Launch], None]) -> Iterator[None]:
    """Give launches to a function in place of running them, to count them or to see how kernels are called."""
    global _run
    before, _run = _run, run
    try:
        yield
    finally:
        _run = before


def set_tuner(operation: str, tuner: Tuner | None) -> None:
    """Let a function choose an operation's settings from now on; None goes back to the defaults.

    Args:
        operation: Name of the operation's module.
        tuner: Called on every call of the operation, so it has to look up what it has found before.
    """
    if tuner is None:
        _tuners.pop(operation, None)
    else:
        _tuners[operation] = tuner


def tuned(operation: str, default: S, *sizes: int) -> S:
    """Give the settings of an operation for a problem of these sizes."""
    tuner = _tuners.get(operation)
    return default if tuner is None else tuner(default, sizes)


def power_of_two(size: int) -> int:
    """Give the smallest power of two that is not below a size, and at least 1."""
    return 1 << max(size - 1, 0).bit_length()


def ceil_div(a: int, b: int) -> int:
    """Divide, rounding up."""
    return -(-a // b)


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """Tell what registers hold: float64 if a tensor does, else float32."""
    return torch.float64 if any(x.dtype == torch.float64 for x in tensors) else torch.float32


def compute_type(*tensors: Tensor) -> Any:
    """Give the Triton type of :func:`compute_dtype`."""
    return tl.float64 if compute_dtype(*tensors) == torch.float64 else tl.float32


@dataclass(frozen=True)
class RowTile:
    """Whole rows of channels that one program holds at a time.

    Attributes:
        rows: Rows, a power of two.
        channels: Channels, a power of two; those past the end are masked.
        warps: Warps that share them.
    """

    rows: int
    channels: int
    warps: int


def row_tile(channels: int, x: Tensor, vector: int, warps: int, max_warps: int = 16) -> RowTile:
    """Share rows of channels among threads.

    Args:
        channels: Channels of a row.
        x: What most of what is loaded is like.
        vector: Bytes of a tile that a thread loads at once.
        warps: Fewest warps of a program: short rows are taken several at a time.
        max_warps: Most warps of a program. Rows that are too long for them give each thread more numbers.
    """
    block, elements = power_of_two(channels), max(vector // x.element_size(), 1)
    warps = min(max(warps, block // (32 * elements)), max_warps)
    return RowTile(max(1, 32 * warps * elements // block), block, warps)


@dataclass(frozen=True)
class Chunks:
    """How tokens are cut into chunks, each of which is summed up by one program.

    Attributes:
        count: Number of chunks.
        size: Tokens of a chunk.
    """

    count: int
    size: int


def cut(tokens: int, tile: int, most: int) -> Chunks:
    """Cut tokens into at most so many chunks of whole tiles."""
    size = tile * max(1, ceil_div(ceil_div(tokens, max(most, 1)), tile))
    return Chunks(ceil_div(tokens, size), size)
