"""Choosing between ways of doing the same by timing them on the user's own GPU, once.

What is chosen is kept for the process, and in a file of the user's cache folder for later ones. Each device with its
driver, versions of PyTorch and Triton, and state of our kernels' source has a file of its own. A choice never changes
while a process runs, so a backward can rely on what its forward has used.

Where nothing can be timed, the first candidate is used, which a rule has put there: while a model is traced, while a
CUDA graph is captured, on tensors without data, and in a process of a distributed training. There, processes meet
different sizes at different times. So all of them take what rank 0 has chosen before: see :func:`tune_together`.
"""

from __future__ import annotations

import logging
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from .tuning_file import TuningFile, environment

ENVIRONMENT_VARIABLE = 'MMLOCALMAMBA_TUNING'
"""``'0'`` switches tuning off; anything else is the folder to keep choices in. Default: the user's cache folder."""

BUDGET = 10.0
"""Seconds after which no further candidate of a problem is tried, compilation included."""

TOTAL_BUDGET = 60.0
"""Seconds of a process after which nothing more is timed: what is met later gets the rule's choice."""

ROUNDS = 7
"""Timed runs of every candidate, of which the median counts."""

logger = logging.getLogger('mmlocalmamba')
Candidate = TypeVar('Candidate', bound=Hashable)


def seconds_on_device(run: Callable[[], Any], device: torch.device) -> float:
    """Run a function a few times on a GPU, after once to compile it; returns the median seconds of a run."""
    with torch.cuda.device(device):
        run()
        events = [torch.cuda.Event(enable_timing=True) for _ in range(ROUNDS + 1)]
        events[0].record()
        for event in events[1:]:
            run()
            event.record()
        torch.cuda.synchronize()
        return statistics.median(a.elapsed_time(b) for a, b in pairwise(events)) / 1e3


class Tuner:
    """Chooses candidates and remembers them.

    Args:
        timer: Runs a function on a device and gives the seconds of one run.
        environment: Describes a device and everything else that timings depend on, as words by name.
        kinds: Types of devices on which anything is timed.
    """

    def __init__(
        self,
        timer: Callable[[Callable[[], Any], torch.device], float] = seconds_on_device,
        environment: Callable[[torch.device], dict[str, str]] = environment,
        kinds: Sequence[str] = ('cuda',),
    ) -> None:
        self.timer, self.environment, self.kinds = timer, environment, kinds
        self.timing_alone = False
        self.spent = 0.0
        self._explained: set[str] = set()
        self._chosen: dict[tuple[torch.device, Hashable], Any] = {}
        self._files: dict[torch.device, TuningFile | None] = {}
        self._lock = threading.RLock()

    def choose(
        self,
        problem: Hashable,
        candidates: Callable[[], Sequence[Candidate]],
        run: Callable[[Candidate], Any],
        like: Tensor,
    ) -> Candidate:
        """Give the fastest candidate for a problem on the device of a tensor; see :func:`tuned`."""
        key = (like.device, problem)
        if key in self._chosen:
            return self._chosen[key]
        with self._lock:
            if key not in self._chosen:
                self._chosen[key] = self._decide(str(problem), list(candidates()), run, like)
            return self._chosen[key]

    def _decide(
        self, problem: str, candidates: list[Candidate], run: Callable[[Candidate], Any], like: Tensor
    ) -> Candidate:
        device = like.device
        file = self._file(device) if len(candidates) > 1 and device.type in self.kinds else None
        if file is None:
            return candidates[0]
        by_name = {str(candidate): candidate for candidate in candidates}
        known = file.choices.get(problem)
        if known in by_name:
            return by_name[known]
        if not self.may_time(like):
            self._explain(device)
            return candidates[0]
        if self.spent > TOTAL_BUDGET:
            logger.info('%s on %s: not tuned, %.0f s have gone into tuning already', problem, device, self.spent)
            return candidates[0]
        start = time.perf_counter()
        times = self._time(problem, candidates, run, device)
        self.spent += time.perf_counter() - start
        if not times:
            return candidates[0]
        best = min(times, key=lambda name: times[name])
        logger.debug('%s on %s: %s, %.3f ms, of %d tried', problem, device, best, 1e3 * times[best], len(times))
        file.keep(problem, best)
        return by_name[best]

    def _time(
        self, problem: str, candidates: list[Candidate], run: Callable[[Candidate], Any], device: torch.device
    ) -> dict[str, float]:
        """Time candidates, the rule's first, until the budget is spent; those that fail are left out."""
        start = time.perf_counter()
        times: dict[str, float] = {}
        for candidate in candidates:
            if times and time.perf_counter() - start > BUDGET:
                break
            try:
                with torch.no_grad():
                    times[str(candidate)] = self.timer(lambda candidate=candidate: run(candidate), device)  # type: ignore[misc]
            except Exception as error:  # what a GPU cannot launch, or has no memory for, is merely not chosen
                logger.info('%s on %s: %s is not used: %s: %s', problem, device, candidate, type(error).__name__, error)
        return times

    def may_time(self, like: Tensor) -> bool:
        """Tell whether anything can be timed now, on tensors such as this one."""
        if torch.compiler.is_compiling() or type(like) not in (Tensor, nn.Parameter):
            return False
        if _is_capturing(like.device):
            return False
        return self.timing_alone or _world_size() == 1

    def _explain(self, device: torch.device) -> None:
        """Say once what to do about kernels that a user may expect to be tuned, and that cannot be timed now."""
        if _is_capturing(device):
            reason = (
                'kernels met first while a CUDA graph is captured are not tuned, and keep their default settings: run '
                'a step before the capture'
            )
        elif _world_size() > 1 and not self.timing_alone:
            reason = (
                'kernels are not tuned in a training of several processes, and have their default settings: before '
                'it, call mmlocalmamba.ops.tuning.tune_together in every process (with MMEngine, KernelTuningHook '
                'does so)'
            )
        else:
            return
        if reason not in self._explained:
            self._explained.add(reason)
            logger.info('%s: %s', device, reason)

    def _file(self, device: torch.device) -> TuningFile | None:
        """Give the file of a device's choices, read at first use; None where tuning is switched off."""
        if device not in self._files:
            setting = os.environ.get(ENVIRONMENT_VARIABLE, '')
            self._files[device] = file = None if setting == '0' else self._open(setting, device)
            if file is not None:
                logger.info(
                    'kernels are tuned for %s at first use; choices are kept in %s (%s=0 switches this off)',
                    device, file.path, ENVIRONMENT_VARIABLE,
                )  # fmt: skip
        return self._files[device]

    def _open(self, setting: str, device: torch.device) -> TuningFile:
        # Processes of a distributed training may find different files, or one while another writes it.
        read = self.timing_alone or _world_size() == 1
        return TuningFile(Path(setting) if setting else cache_folder(), self.environment(device), read)

    def forget(self, device: torch.device) -> None:
        """Forget what was chosen for a device, the file that was read included."""
        with self._lock:
            self._chosen = {key: value for key, value in self._chosen.items() if key[0] != device}
            self._files.pop(device, None)

    def share(self, device: torch.device) -> None:
        """Let all processes of a distributed training forget their choices and take those of rank 0."""
        file = self._file(device)
        told = [file.choices if file is not None else None]
        distributed.broadcast_object_list(told, src=0)
        with self._lock:
            self._chosen = {key: value for key, value in self._chosen.items() if key[0] != device}
            if told[0] is None:
                self._files[device] = None
            elif file is None:
                self._files[device] = TuningFile(None, {}, read=False, choices=told[0])
            else:
                file.choices = told[0]


_tuner = Tuner()


def tuned(
    problem: Hashable,
    candidates: Callable[[], Sequence[Candidate]],
    run: Callable[[Candidate], Any],
    like: Tensor,
) -> Candidate:
    """Give the fastest candidate for a problem, from timing all of them when it is met first.

    Args:
        problem: What the choice depends on besides the device: an operation, a dtype, sizes in classes (see
            :func:`size_class`). Its ``str`` names it in the file.
        candidates: Gives the candidates. The first is what a rule would take without timing. Their ``str`` names them.
        run: Does the work with a candidate, on the tensors at hand. Must leave no trace.
        like: One of these tensors.

    Returns:
        The candidate; always the same one in a process.
    """
    return _tuner.choose(problem, candidates, run, like)


def size_class(size: int) -> int:
    """Round a size up to a power of two: sizes of one class share a choice."""
    return 1 << max(size - 1, 0).bit_length()


def spent() -> float:
    """Give the seconds that this process has spent on tuning, compilation included."""
    return _tuner.spent


def tune_together(run: Callable[[], Any], device: torch.device) -> None:
    """Tune in rank 0, and let all processes of a distributed training take its choices.

    Every process must call it, at the same point, before the kernels are used in earnest. Without distributed training
    there is nothing to agree on, and nothing is done: kernels are tuned when they are used.

    Args:
        run: Uses the kernels at the sizes to come; called in rank 0 alone, so it must not communicate.
        device: This process's device.
    """
    if _world_size() == 1:
        return
    if distributed.get_rank() == 0:
        _tuner.timing_alone = True
        _tuner.forget(device)  # what was chosen before without timing
        try:
            run()
        finally:
            _tuner.timing_alone = False
    _tuner.share(device)


def cache_folder() -> Path | None:
    """Give this package's folder for cached files, by the rules of the platform; None if there is no home folder."""
    try:
        if sys.platform == 'win32':
            base = Path(os.environ.get('LOCALAPPDATA') or Path.home() / 'AppData' / 'Local')
        elif sys.platform == 'darwin':
            base = Path.home() / 'Library' / 'Caches'
        else:
            base = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    except RuntimeError:
        return None
    return base / 'mmlocalmamba' / 'tuning'


def _is_capturing(device: torch.device) -> bool:
    return device.type == 'cuda' and torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def _world_size() -> int:
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
