"""What a machine can do per second: measured on a processor, from the data sheet of a GPU."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mmlocalmamba.analysis.measuring import UnavailableError, seconds
from mmlocalmamba.ops.backends import cpu
from scan_costs import GPUS
from timing import Setup


@dataclass(frozen=True)
class Rates:
    """What a machine can do per second.

    Attributes:
        exponentials: Exponentials.
        bytes: Bytes read or written.
        source: Where these rates are from.
    """

    exponentials: float
    bytes: float
    source: str

    def bounds(self, exponentials: float, moved: float) -> dict[str, float]:
        """Return the milliseconds that each resource needs."""
        return {'exp bound ms': 1e3 * exponentials / self.exponentials, 'bytes bound ms': 1e3 * moved / self.bytes}


def gpu_rates(name: str) -> Rates:
    """Return a GPU's rates from its data sheet.

    Raises:
        UnavailableError: If the data sheet of that GPU is not known.
    """
    for key, gpu in GPUS.items():
        if key in name.lower():
            return Rates(gpu.exponentials, gpu.bandwidth, f'data sheet of {gpu.name}')
    raise UnavailableError(f'peak rates are known of {", ".join(GPUS)} only, not of {name!r}')


def cpu_rates(setup: Setup) -> Rates:
    """Measure the exponentials and bytes per second that all threads of this machine reach together."""
    library = cpu.library() if cpu.why_not('cpu') is None else None
    function: Callable[[Tensor], Tensor] = torch.exp2 if library is None else _library_exp2
    whose = "torch's exp2" if library is None else "the C++ kernels' exp2"
    # Large enough to hide the cost of a call, small enough for caches, and for PyTorch not to use threads of its own.
    attempts = 1 if setup.small else 8
    exponentials = max(_exponentials(function, 1 << k, setup) for k in (14, 15) for _ in range(attempts))
    source = torch.ones((1 << 22 if setup.small else 1 << 29) // 4)
    target = torch.empty_like(source)
    moved = 2 * source.nbytes / min(seconds(lambda: target.copy_(source)) for _ in range(2 + attempts))
    where = f'{whose} in cache and a copy of {source.nbytes >> 20} MiB'
    return Rates(exponentials, moved, f'the best seen here, {where}, {setup.threads} thread(s)')


def _library_exp2(x: Tensor) -> Tensor:
    y = torch.empty_like(x)
    cpu.library().exp2(x=x, y=y)
    return y


def _exponentials(function: Callable[[Tensor], Tensor], size: int, setup: Setup) -> float:
    """Return the exponentials per second of all threads together, each with a tensor of its own."""
    calls = (1 << 20 if setup.small else 1 << 25) // size
    start = threading.Barrier(setup.threads)
    spans: list[tuple[float, float]] = []

    def work() -> None:
        x = torch.linspace(-8, 0, size)
        function(x)
        start.wait()
        begin = time.perf_counter()
        for _ in range(calls):
            function(x)
        spans.append((begin, time.perf_counter()))

    workers = [threading.Thread(target=work) for _ in range(setup.threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    begins, ends = zip(*spans, strict=True)
    return setup.threads * calls * size / (max(ends) - min(begins))
