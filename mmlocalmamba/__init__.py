"""LocalVMamba and LocalVim backbones for MMDetection, MMSegmentation and everything else built on MMEngine.

Importing the package checks the versions of what is installed beside it and puts the torchvision stand-in for
``mmcv._ext`` in place (see :mod:`mmlocalmamba.compat`). It imports neither torch nor any mm package. Its subpackages
are imported when they are first used: ``mmlocalmamba.models.LocalVMamba()`` works after ``import mmlocalmamba``, and so
does ``mmlocalmamba.build_backbone('local_vmamba_tiny')``.
"""

from importlib import import_module
from typing import Any

from . import compat
from .compat.versions import check_versions
from .version import SUPPORTED, __version__

check_versions(SUPPORTED)
compat.install()

_SUBPACKAGES = ('analysis', 'datasets', 'directions', 'engine', 'evaluation', 'models', 'ops', 'search')

__all__ = ['__version__']


def __getattr__(name: str) -> Any:
    if name == 'build_backbone':
        return import_module(f'{__name__}.models').build_backbone
    if name in _SUBPACKAGES:
        return import_module(f'{__name__}.{name}')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBPACKAGES, 'build_backbone'})
