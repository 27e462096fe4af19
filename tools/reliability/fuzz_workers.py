"""Making numbered calls in processes of their own, each of which may crash."""

from __future__ import annotations

import json
import struct
import subprocess
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

MOST_CRASHES = 10
"""Of one process after the other, after which the rest is not tried."""


@dataclass
class Fault:
    """A call that went wrong.

    Attributes:
        seed: Its number.
        text: What happened.
    """

    seed: int
    text: str


@dataclass
class Report:
    """What became of all calls.

    Attributes:
        counts: Number of calls by operation and outcome.
        faults: Those that went wrong.
    """

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)

    def add(self, other: Report) -> None:
        """Add what became of other calls."""
        self.counts.update(other.counts)
        self.faults.extend(other.faults)


def run_workers(command: list[str], first: int, calls: int, jobs: int) -> Report:
    """Make the calls ``first`` to ``first + calls - 1`` in several processes at a time.

    Args:
        command: Runs one process; it takes ``FIRST STEP END STATUS`` behind it, writes the number of each call as eight
            bytes to the file STATUS before it makes it, and prints a line of JSON for every fault (``seed``, ``text``)
            and one at the end (``counts``).
        first: Number of the first call.
        calls: How many.
        jobs: How many processes.
    """
    report = Report()
    with ThreadPoolExecutor(jobs) as pool:
        for part in pool.map(lambda job: _run_one(command, first + job, jobs, first + calls), range(jobs)):
            report.add(part)
    return report


def _run_one(command: list[str], first: int, step: int, end: int) -> Report:
    """Make every step-th call; after a crash go on behind it."""
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        status = Path(folder, 'status')
        for _ in range(MOST_CRASHES):
            status.write_bytes(struct.pack('q', first))
            done = subprocess.run(
                [*command, *map(str, (first, step, end)), str(status)], capture_output=True, text=True, check=False
            )
            for line in done.stdout.splitlines():
                result = json.loads(line) if line.startswith('{') else {}
                report.counts.update(result.get('counts', {}))
                if 'seed' in result:
                    report.faults.append(Fault(**result))
            if done.returncode == 0:
                break
            (seed,) = struct.unpack('q', status.read_bytes())
            report.faults.append(Fault(seed, f'CRASH, exit status {done.returncode}\n{done.stderr[-4000:]}'))
            report.counts['crash fault'] += 1
            first = seed + step
    return report
