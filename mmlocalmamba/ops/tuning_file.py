"""The file in which the choices of :mod:`.tuning` are kept, and what it is named after."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

logger = logging.getLogger('mmlocalmamba')

_BACKENDS = Path(__file__).with_name('backends')
_DRIVERS = (Path('/proc/driver/nvidia/version'), Path('/sys/module/amdgpu/version'))


class TuningFile:
    """Choices by problem, kept in a JSON file that is named after a fingerprint of the environment.

    A file that cannot be read or written is no error: it is logged, and choices are then kept for this process alone.

    Args:
        folder: Where the file is; None keeps choices for this process alone.
        environment: What the choices hold for; written into the file too, for whoever looks at it.
        read: Whether to take the choices that the file holds.
        choices: Choices to start from.
    """

    def __init__(
        self,
        folder: Path | None,
        environment: Mapping[str, str],
        read: bool = True,
        choices: Mapping[str, str] | None = None,
    ) -> None:
        self.environment = dict(environment)
        text = json.dumps(self.environment, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.path = None if folder is None else folder / f'{name}.json'
        self.choices: dict[str, str] = dict(choices or {}) | (self._read() if read else {})

    def keep(self, problem: str, choice: str) -> None:
        """Remember a choice, and write it down beside those that other processes have written meanwhile."""
        self.choices[problem] = choice
        if self.path is None:
            return
        content = {'environment': self.environment, 'choices': {**self._read(), **self.choices}}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Renaming is atomic: nobody reads half a file.
            handle, written = tempfile.mkstemp(dir=self.path.parent, suffix='.tmp')
            try:
                with os.fdopen(handle, 'w', encoding='utf-8') as file:
                    json.dump(content, file, indent=2, sort_keys=True)
                os.replace(written, self.path)
            except BaseException:
                with suppress(OSError):
                    os.unlink(written)
                raise
        except OSError as error:
            logger.warning(
                'choices of kernels are kept for this process alone: %s cannot be written: %s', self.path, error
            )
            self.path = None

    def _read(self) -> dict[str, str]:
        if self.path is None:
            return {}
        try:
            choices = json.loads(self.path.read_text(encoding='utf-8'))['choices']
            if not all(isinstance(word, str) for pair in choices.items() for word in pair):
                raise ValueError('its choices are not words')
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            logger.warning('%s is not used, kernels are tuned anew: %s: %s', self.path, type(error).__name__, error)
            return {}
        return choices


def environment(device: torch.device) -> dict[str, str]:
    """Describe a GPU and everything else that timings of kernels depend on."""
    properties = torch.cuda.get_device_properties(device)
    return {
        'gpu': properties.name,
        'multiprocessors': str(properties.multi_processor_count),
        'memory': str(properties.total_memory),
        'driver': driver_version(),
        'runtime': str(torch.version.hip or torch.version.cuda),
        'torch': torch.__version__,
        'triton': _installed('triton'),
        'mamba-ssm': _installed('mamba-ssm'),
        'kernels': source_fingerprint(),
    }


def driver_version() -> str:
    """Give the version of the GPU's driver, as far as the system tells it."""
    for path in _DRIVERS:
        with suppress(OSError):
            found = re.search(r'\d+\.\d+(\.\d+)*', path.read_text(encoding='utf-8', errors='replace'))
            if found:
                return found[0]
    return 'unknown'


def source_fingerprint() -> str:
    """Hash the source of the GPU kernels and of what launches them."""
    files = sorted([*(_BACKENDS / 'triton').glob('*.py'), _BACKENDS / 'cuda.py'])
    return hashlib.sha256(b'\0'.join(file.read_bytes() for file in files)).hexdigest()[:16]


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return 'none'
