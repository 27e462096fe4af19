"""Why a worker of a data loader died: what a run ends with in place of a bare traceback."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DEATH = re.compile(r'DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (is killed by signal: (?P<signal>[^.]+)|exited)')
_MEMORY_EVENTS = Path('/sys/fs/cgroup/memory.events')

_CAUSES = {
    'Killed': 'The system killed it, which it does when memory runs out (`dmesg | grep -i "killed process"` tells)',
    'Bus error': 'Shared memory ran out: make /dev/shm larger (docker run --shm-size=8g)',
    'Segmentation fault': 'Code of a library crashed in it. num_workers=0 shows in the log which sample it was at',
}
_LESS_MEMORY = (
    'Give it less to hold: a smaller num_workers or batch_size of the data loader, or prefetch_factor=1, '
    'persistent_workers=False'
)


class DeadWorkerError(RuntimeError):
    """A worker of a data loader died; the message says of what, and what can be done."""


@contextmanager
def explain_dead_workers() -> Iterator[None]:
    """Turn PyTorch's error about a dead worker of a data loader into one that says of what it died.

    Raises:
        DeadWorkerError: In place of that error; all others pass.
    """
    kills = _memory_kills()
    try:
        yield
    except RuntimeError as error:
        match = _match(error)
        if match is None:
            raise
        raise DeadWorkerError(_message(match, _memory_kills() > kills)) from error


def _match(error: BaseException | None) -> re.Match[str] | None:
    """Find what PyTorch says about a dead worker; the signal, if it is known, is in an error behind the error."""
    if error is None:
        return None
    match = _DEATH.search(str(error))
    behind = _match(error.__cause__ or error.__context__)
    return behind if behind is not None and (match is None or behind['signal']) else match


def _message(match: re.Match[str], out_of_memory: bool) -> str:
    signal = (match['signal'] or '').strip()
    if out_of_memory:
        cause = 'Memory ran out: the system killed a process of this group'
    else:
        cause = _CAUSES.get(
            signal, 'It ended without saying why; most often memory has run out, or a library called exit'
        )
    how = f'was killed by a signal ({signal})' if signal else 'ended unexpectedly'
    remedy = f' {_LESS_MEMORY}.' if out_of_memory or signal in ('Killed', '') else ''
    return (
        f'A worker of a data loader (process {match[1]}) {how}. {cause}.{remedy} What was trained until the last '
        'checkpoint is kept: --resume goes on from there.'
    )


def _memory_kills() -> int:
    """Count the processes of this control group that were killed because memory ran out; 0 where that is not told."""
    try:
        match = re.search(r'^oom_kill (\d+)$', _MEMORY_EVENTS.read_text(encoding='ascii'), re.MULTILINE)
    except OSError:
        return 0
    return int(match[1]) if match else 0
