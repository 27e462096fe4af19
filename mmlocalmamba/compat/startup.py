"""Makes the stand-in for ``mmcv._ext`` work in programs that never import mmlocalmamba.

``python -m mmlocalmamba.compat enable`` writes two small files into site-packages: a copy of
:mod:`mmlocalmamba.compat.finder`, and a ``.pth`` file, which Python reads at start, that installs it. Nothing else is
imported at start; a compiled mmcv always goes first. ``disable`` removes both files.
"""

from __future__ import annotations

import os
import site
import sysconfig
from pathlib import Path

from . import finder

MODULE = '_mmlocalmamba_mmcv_ext_finder'


def site_dir() -> Path:
    """Return this environment's site-packages if it can be written to, else the user's.

    Raises:
        PermissionError: If neither can be written to.
    """
    folder = Path(sysconfig.get_path('purelib'))
    if os.access(folder, os.W_OK):
        return folder
    if site.ENABLE_USER_SITE:
        return Path(site.getusersitepackages())
    raise PermissionError(f'{folder} cannot be written to, and this Python reads no user site-packages: use a venv')


def files(folder: Path) -> tuple[Path, Path]:
    """Return the two files' paths: the finder's copy and the ``.pth`` file."""
    return folder / f'{MODULE}.py', folder / f'{MODULE}.pth'


def enable(folder: Path) -> None:
    """Write the two files into a site-packages folder.

    Args:
        folder: Site-packages of the Python that is to find the stand-in; made if missing.
    """
    module, pth = files(folder)
    folder.mkdir(parents=True, exist_ok=True)
    module.write_text(Path(finder.__file__).read_text(encoding='utf-8'), encoding='utf-8')
    pth.write_text(f'import {MODULE}; {MODULE}.install()\n', encoding='utf-8')


def disable(folder: Path) -> bool:
    """Remove the two files; tells whether there were any."""
    found = is_enabled(folder)
    for path in reversed(files(folder)):
        path.unlink(missing_ok=True)
    return found


def is_enabled(folder: Path) -> bool:
    """Tell whether a site-packages folder has both files."""
    return all(path.is_file() for path in files(folder))
