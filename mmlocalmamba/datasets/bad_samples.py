"""What becomes of samples that cannot be used, and the file that lists those left out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, NamedTuple

BadSamplePolicy = Literal['raise', 'skip']

POLICIES = ('raise', 'skip')
"""What ``bad_samples`` of a config may be: stop with an error, or go on without the sample and list it."""

BAD_SAMPLES_FILE = 'bad_samples.txt'


class BadSample(NamedTuple):
    """A sample that cannot be used.

    Attributes:
        source: Where it is from: an image's path, or ``'annotation 17 of instances.json'``.
        problem: What is wrong with it, in a few words.
    """

    source: str
    problem: str


class BadSampleList:
    """The file ``bad_samples.txt`` in a folder: one bad sample a line, source and problem, with a tab between.

    Any number of processes may add to it at the same time, such as the workers of data loaders. Each line is appended
    by one call of the operating system, so lines never mix (on a local disk; NFS does not promise it).

    A list object adds a sample once. Other processes, or workers that are started anew for each epoch, may add it
    again; :meth:`read` gives it once.

    Args:
        folder: Where the file is. It is created with the first sample.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / BAD_SAMPLES_FILE
        self._added: set[BadSample] = set()

    def add(self, sample: BadSample) -> None:
        """Append a sample, unless this object has added it already.

        Raises:
            OSError: If the file cannot be written.
        """
        if sample in self._added:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = '\t'.join(_escape(field) for field in sample) + '\n'
        data = line.encode('utf-8', 'surrogateescape')  # file names need not be valid UTF-8
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            written = os.write(descriptor, data)
        finally:
            os.close(descriptor)
        if written != len(data):
            raise OSError(f'{self.path}: only {written} of {len(data)} bytes were written; is the disk full?')
        self._added.add(sample)

    def read(self) -> list[BadSample]:
        """Give all samples that any process has added, each once, in the order of the file."""
        try:
            text = self.path.read_bytes().decode('utf-8', 'surrogateescape')
        except FileNotFoundError:
            return []
        lines = text.split('\n')[:-1]  # the last one may be on its way
        samples = (BadSample(*(_unescape(field) for field in line.split('\t'))) for line in lines)
        return list(dict.fromkeys(samples))

    def __len__(self) -> int:
        """Count the different samples in the file."""
        return len(self.read())


def check_policy(policy: str) -> None:
    """Check the setting ``bad_samples`` of a config.

    Raises:
        ValueError: If it is none of :data:`POLICIES`.
    """
    if policy not in POLICIES:
        raise ValueError(
            f"bad_samples={policy!r}: want 'raise' (stop and name the sample) or 'skip' (go on without it and list it "
            f'in {BAD_SAMPLES_FILE})'
        )


def _escape(text: str) -> str:
    return text.replace('\\', r'\\').replace('\t', r'\t').replace('\n', r'\n').replace('\r', r'\r')


def _unescape(text: str) -> str:
    named = {'t': '\t', 'n': '\n', 'r': '\r'}
    characters = iter(text)
    return ''.join(
        named.get(following := next(characters, ''), following) if character == '\\' else character
        for character in characters
    )
