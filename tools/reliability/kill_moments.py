"""Moments of a training run: around its steps, within its evaluations, and between the operations on its files."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.runner import Runner

from mmlocalmamba.engine import checkpoint_files

HOOK_POINTS = {
    'before_train_iter': 'step',
    'after_train_iter': 'step',
    'before_val_epoch': 'evaluation',
    'after_val_iter': 'evaluation',
    'after_val_epoch': 'evaluation',
}


@dataclass
class Moments:
    """Counts the moments of a run, in the process that runs it, and ends it at one of them.

    Attributes:
        target: Kind and number of the moment to kill at; None for no kill.
        seen: How many moments there were of each kind.
    """

    target: tuple[str, int] | None
    seen: Counter[str] = field(default_factory=Counter)

    def pass_by(self, kind: str) -> None:
        """Count a moment; does not return from the one to kill at."""
        if (kind, self.seen[kind]) == self.target:
            os.kill(os.getpid(), signal.SIGKILL)
        self.seen[kind] += 1

    def watch(self) -> None:
        """Count calls of hooks and file operations from now on."""
        call_hook = Runner.call_hook

        def watched(runner: Runner, fn_name: str, **kwargs: Any) -> None:
            kind = HOOK_POINTS.get(fn_name)
            if kind is not None:
                self.pass_by(kind)
            call_hook(runner, fn_name, **kwargs)

        Runner.call_hook = watched
        for name in ('fsync', 'replace', 'remove', 'unlink'):
            setattr(os, name, self._watched(getattr(os, name)))
        vars(checkpoint_files)['open'] = lambda path, mode: HalfWriter(path, mode, self)

    def _watched(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        """Give an operation on files that is a moment."""

        def watched(*args: Any, **kwargs: Any) -> Any:
            self.pass_by('writing')
            return operation(*args, **kwargs)

        return watched


class HalfWriter:
    """A file that is written in two halves, with a moment before, between and after them."""

    def __init__(self, path: Path, mode: str, moments: Moments) -> None:
        self.file, self.moments = path.open(mode), moments
        self.flush, self.fileno = self.file.flush, self.file.fileno

    def __enter__(self) -> HalfWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def write(self, content: bytes) -> None:
        """Write everything."""
        half = len(content) // 2
        for part in (content[:half], content[half:]):
            self.moments.pass_by('writing')
            self.file.write(part)
            self.file.flush()
        self.moments.pass_by('writing')
