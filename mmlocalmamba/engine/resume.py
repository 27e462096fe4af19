"""Chooses what ``--resume`` goes on from: the newest checkpoint, if it is whole."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from mmlocalmamba.compat.torch_load import can_be_mapped, register_safe_globals
from mmlocalmamba.models.weights.damage import damage

from .checkpoint_files import LAST_CHECKPOINT

_TEMPLATES = ('epoch_{}.pth', 'iter_{}.pth')
_TIME_FORMAT = '%Y%m%d_%H%M%S'


@dataclass(frozen=True)
class _Candidate:
    """A checkpoint that could be resumed from; sorted by when it was made.

    Attributes:
        path: Where it is.
        time: Seconds since the epoch: as the checkpoint says, which copies keep, else the file's.
        step: Epoch or iteration in its name; -1 if there is none.
        problem: What is wrong with it, if it cannot be read.
    """

    path: Path
    time: float
    step: int
    problem: str | None = None


def settle_resume(cfg: Config, wanted: str | None) -> str | None:
    """Find the checkpoint to resume from, and put it where MMEngine's Runner looks.

    Args:
        cfg: The whole config, changed in place: ``resume`` and ``load_from``. A config may ask for it by
            ``resume = True``, too. If there is nothing to resume from, it starts as it would without ``--resume``.
        wanted: What ``--resume`` gave: a checkpoint, 'auto' for the newest in the work dir, None if it was not given.

    Returns:
        A sentence for the log, if there is something to say.

    Raises:
        ValueError: If the newest checkpoint is not whole. The message names it, what is wrong with it, and the newest
            whole one.
    """
    if wanted is None and not (cfg.get('resume') and not cfg.get('load_from')):
        return None
    if wanted not in (None, 'auto'):
        cfg.resume, cfg.load_from = True, wanted
        return None
    newest, note = newest_checkpoint(_folders(cfg), _templates(cfg))
    cfg.resume = newest is not None
    if newest is not None:
        cfg.load_from = str(newest)
    return note


def newest_checkpoint(folders: list[Path], templates: list[str]) -> tuple[Path | None, str | None]:
    """Find the newest checkpoint of a run.

    It is the one that was made last. ``last_checkpoint`` does not decide: it can be missing, or name a file that is
    gone. It only adds its file to those in the folders.

    Args:
        folders: Where to look; the first one is the work dir.
        templates: Names of checkpoints, with {} for the epoch or the iteration.

    Returns:
        The checkpoint, None if there is none; and a sentence for the log, if there is something to say.

    Raises:
        ValueError: If it is not whole, or if ``last_checkpoint`` names a newer one that is gone.
    """
    work_dir = folders[0]
    named = _named_last(work_dir)
    paths = [path for folder in folders for path in _checkpoints(folder, templates)]
    if named is not None and named.is_file() and all(named.name != path.name for path in paths):
        paths.append(named)
    found = sorted((_read(path, templates) for path in paths), key=lambda it: (it.time, it.step), reverse=True)
    skipped = []
    gone = named is not None and not named.is_file() and all(named.name != path.name for path in paths)
    if gone and all(_step(named, templates) > candidate.step for candidate in found):
        skipped.append(f'{named}, which {work_dir / LAST_CHECKPOINT} names, is gone')
    for candidate in found:
        problem = candidate.problem or damage(candidate.path)
        if problem is None:
            break
        skipped.append(f'{candidate.path}: {problem}')
    else:
        if skipped:
            raise ValueError(
                f'cannot resume: no checkpoint in {work_dir} is whole ({"; ".join(skipped)}). To start from the '
                'beginning, leave --resume out or give another --work-dir'
            )
        return None, f'There is no checkpoint in {work_dir} to resume from: the run starts from the beginning.'
    if skipped:
        raise ValueError(
            f'cannot resume from the newest checkpoint ({"; ".join(skipped)}). The newest whole one is '
            f'{candidate.path}. To go back to it: --resume {candidate.path}'
        )
    if named is None or named.name != candidate.path.name:
        says = f'names {named}' if named is not None else 'is missing or empty'
        return candidate.path, f'{work_dir / LAST_CHECKPOINT} {says}: the newest whole checkpoint is {candidate.path}.'
    return candidate.path, None


def _folders(cfg: Config) -> list[Path]:
    """Give the work dir, and where the checkpoint hook writes if that is somewhere else on this machine."""
    out_dir = _hook(cfg).get('out_dir')
    folders = [Path(cfg.work_dir)]
    if out_dir and '://' not in str(out_dir):
        folders.append(Path(out_dir) / folders[0].resolve().name)
    return folders


def _templates(cfg: Config) -> list[str]:
    own = _hook(cfg).get('filename_tmpl')
    return [*_TEMPLATES, own] if own else list(_TEMPLATES)


def _hook(cfg: Config) -> dict[str, Any]:
    return (cfg.get('default_hooks') or {}).get('checkpoint') or {}


def _named_last(work_dir: Path) -> Path | None:
    """Give what ``last_checkpoint`` names, if anything."""
    file = work_dir / LAST_CHECKPOINT
    name = os.fsdecode(file.read_bytes()).strip() if file.is_file() else ''
    return Path(name) if name else None


def _checkpoints(folder: Path, templates: list[str]) -> Iterator[Path]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_file() and _step(path, templates) >= 0:
            yield path


def _step(path: Path | None, templates: list[str]) -> int:
    """Give the epoch or iteration in a name; -1 if it fits no template."""
    for template in templates:
        pattern = re.escape(template).replace(re.escape('{}'), r'(\d+)')
        match = re.fullmatch(pattern, path.name if path is not None else '')
        if match:
            return int(match[1])
    return -1


def _read(path: Path, templates: list[str]) -> _Candidate:
    """Look up when a checkpoint was made; its tensors stay on the disk."""
    step, time = _step(path, templates), path.stat().st_mtime
    register_safe_globals()
    try:
        meta = torch.load(path, map_location='cpu', weights_only=True, mmap=can_be_mapped(path))['meta']
        return _Candidate(path, datetime.strptime(meta['time'], _TIME_FORMAT).timestamp(), step)
    except OSError as error:
        return _Candidate(path, time, step, problem=f'it cannot be read ({error})')
    except Exception:  # damaged or of another kind: whatever it is, it counts by the file's time
        return _Candidate(path, time, step)
