"""The fingerprint of the kernels' sources, by which a library that was built from other ones is told.

Standard library only: setup.py loads this file by its path.
"""

from __future__ import annotations

import hashlib
from pathlib import Path


def source_fingerprint(folder: Path) -> str:
    """Hash the names and contents of the C++ sources and headers of a folder.

    Args:
        folder: ``mmlocalmamba/ops/csrc`` of a source tree.

    Returns:
        64 hexadecimal digits. Line ends do not matter, since git may change them.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.glob('*'), key=lambda path: path.name):
        if path.suffix in ('.h', '.cpp'):
            content = path.read_bytes().replace(b'\r\n', b'\n')
            digest.update(f'{path.name} {len(content)}\n'.encode())
            digest.update(content)
    return digest.hexdigest()
