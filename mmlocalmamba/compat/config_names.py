"""Lets ``mmlocalmamba::mask_rcnn_localvmamba_t_1x.py`` name one of our configs, in ``_base_`` and in ``mmengine.hub``.

MMEngine does so only for the packages on a list of its own. It also wants a folder in the name, and takes the package's
name for the scope of the types in such a base, where ours name their scope themselves (``mmdet``, ``mmseg``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .after_import import AfterImport

PACKAGE = 'mmlocalmamba'
PREFIX = f'{PACKAGE}::'
FOLDER = Path(__file__).resolve().parents[1]
MODULES = ('mmengine.config.config', 'mmengine.hub.hub')
"""The modules of MMEngine that resolve such names, each by functions that it has imported by name."""


def bridge(module: Any) -> None:
    """Make one of ``MODULES`` resolve our names, once; any other name is resolved as before."""
    split, locate = module._get_package_and_cfg_path, module.get_installed_path
    if locate.__module__ == __name__:
        return

    def get_package_and_cfg_path(cfg_path: str) -> tuple[str, str]:
        return (PACKAGE, cfg_path.removeprefix(PREFIX)) if cfg_path.startswith(PREFIX) else split(cfg_path)

    def get_installed_path(package: str) -> str:
        if package != PACKAGE:
            return locate(package)
        if not (FOLDER / '.mim').is_dir():
            raise FileNotFoundError(
                f'{FOLDER} has no folder .mim, which holds the configs that {PREFIX}... names: install the package '
                f'(pip install -e {FOLDER.parent}), or give the path of the config'
            )
        return str(FOLDER)

    module._get_package_and_cfg_path = get_package_and_cfg_path
    module.get_installed_path = get_installed_path
    if module.__name__ == MODULES[0]:
        leave_scope_open(module.Config)


def leave_scope_open(config: Any) -> None:
    """Make ``Config`` give the types of our bases no scope."""
    resolve = config._get_cfg_path

    def get_cfg_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
        path, scope = resolve(cfg_path, filename)
        return path, None if scope == PACKAGE else scope

    config._get_cfg_path = staticmethod(get_cfg_path)


FINDER = AfterImport(dict.fromkeys(MODULES, bridge))


def install() -> None:
    """Bridge what MMEngine has imported already, and the rest when it is imported."""
    FINDER.install()
