"""Reading the tensors of a checkpoint, from a local file or a URL."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import Request, urlopen

import torch
from torch import Tensor

from mmlocalmamba.compat.engine import all_gather_object, get_rank, print_log
from mmlocalmamba.compat.torch_load import register_safe_globals

from .averages import choose_weights
from .damage import damage

_TIMEOUT = 60
"""Seconds without any data after which a download is given up."""


def read_state_dict(source: str | Path, which: str | None = None) -> dict[str, Tensor]:
    """Read the tensors of a file or URL, without unpickling anything that could run code.

    Args:
        source: A file, or the URL (http, https) of one. In a distributed run, every process has to ask for a URL.
        which: Of a file with two sets of weights, ``'averaged'`` or ``'raw'``: see
            :mod:`mmlocalmamba.models.weights.averages`. Default: those under 'state_dict' or 'model'.

    Returns:
        Tensors by name, less the prefix ``module.`` of a wrapped model.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError: If the download fails.
        ValueError: If the file is damaged, or holds other objects, or no state dict; or if ``which`` is given, and it
            does not hold both sets.
    """
    path = download(str(source)) if urlparse(str(source)).scheme in ('http', 'https') else Path(source)
    if not path.is_file():
        raise FileNotFoundError(
            f'the checkpoint {str(source)!r} is no file: check the path (relative ones start at {Path.cwd()}), or give '
            'the URL of published weights'
        )
    problem = damage(path)
    if problem is not None:
        again = f'Delete {path} and run again' if path != Path(source) else 'Copy or download it again'
        raise ValueError(f'the checkpoint {source} is damaged: {problem}. {again}')
    register_safe_globals()
    try:
        data = torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f'{source} holds objects that are not loaded for safety, or is no checkpoint: save its state dict alone '
            f'with torch.save(dict(state_dict=...), file). torch says: {error}'
        ) from error
    if isinstance(data, Mapping):
        data = find_state_dict(data) if which is None else choose_weights(data, which, source)
    if not isinstance(data, Mapping) or not any(isinstance(value, Tensor) for value in data.values()):
        raise ValueError(f"{source} holds no state dict: want tensors by name, alone or under 'state_dict' or 'model'")
    return {name.removeprefix('module.'): value for name, value in data.items() if isinstance(value, Tensor)}


def find_state_dict(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give what a checkpoint holds under 'state_dict' or 'model', else the checkpoint itself.

    The published ImageNet files of VMamba and Vim have their tensors under 'model'. MMEngine looks under 'state_dict'
    alone, and takes all else for the tensors themselves.
    """
    for key in ('state_dict', 'model'):
        if isinstance(checkpoint.get(key), Mapping):
            return checkpoint[key]
    return checkpoint


def download(url: str) -> Path:
    """Fetch a URL into torch's cache, unless it is there already.

    In a distributed run the first process fetches it, and then those that do not see its cache. All processes have to
    call this. They learn whether it worked, so that none is left waiting for one that failed.

    Args:
        url: Address of a file.

    Returns:
        The file in the cache.

    Raises:
        OSError: In every process alike, if the download failed in any.
    """
    path = cache_path(url)
    first = get_rank() == 0
    for my_turn in (first, not first):
        problem = _fetch(url, path) if my_turn and not path.is_file() else None
        problems = [found for found in all_gather_object(problem) if found is not None]
        if problems:
            raise OSError(
                f'the download of {url} failed: {problems[0]}. Check the address and the network, or fetch the file by '
                'other means and give its path'
            )
    return path


def cache_path(url: str) -> Path:
    """Give the place of a URL in torch's cache: the URL's file name, with a hash of the whole URL in it."""
    name = Path(urlparse(url).path)
    digest = hashlib.sha256(url.encode()).hexdigest()[:8]
    return Path(torch.hub.get_dir()) / 'checkpoints' / f'{name.stem}.{digest}{name.suffix}'


def _fetch(url: str, path: Path) -> str | None:
    """Fetch a URL; returns what went wrong, if anything did. The file gets its name when it is complete."""
    print_log(f'Downloading {url} to {path}', logger='current')
    partial = path.with_name(f'{path.name}.{os.getpid()}.partial')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with urlopen(Request(url, headers={'User-Agent': 'mmlocalmamba'}), timeout=_TIMEOUT) as response:
            with partial.open('wb') as file:
                shutil.copyfileobj(response, file)
            size, wanted = partial.stat().st_size, response.headers.get('Content-Length')
        if wanted is not None and size != int(wanted):
            return f'the connection broke off after {size} of {wanted} bytes'
        partial.replace(path)
    except Exception as error:  # whatever it is, the other processes have to learn of it
        return f'{type(error).__name__}: {error}'
    finally:
        with suppress(OSError):
            partial.unlink()
    return None
