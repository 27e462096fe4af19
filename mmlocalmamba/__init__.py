"""LocalVMamba and LocalVim backbones for MMDetection, MMSegmentation and everything else built on MMEngine.

Importing the package checks the versions of what is installed beside it and puts the torchvision stand-in for
``mmcv._ext`` in place (see :mod:`mmlocalmamba.compat`). It imports neither torch nor any mm package.
"""

from . import compat
from .compat.versions import check_versions
from .version import SUPPORTED, __version__

check_versions(SUPPORTED)
compat.install()

__all__ = ['__version__']
