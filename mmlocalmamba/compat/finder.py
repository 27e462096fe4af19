"""Finds ``mmcv._ext`` where the real one is missing.

``MMLOCALMAMBA_MMCV_EXT=0`` in the environment switches it off.

Python may run this file at every start (:mod:`mmlocalmamba.compat.startup` copies it): it imports next to nothing.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

SWITCH = 'MMLOCALMAMBA_MMCV_EXT'
STAND_IN = 'mmlocalmamba.compat.mmcv_ext'


class MmcvExtFinder:
    """Meta path finder that answers ``mmcv._ext`` with our stand-in.

    It sits at the end of ``sys.meta_path``, so it is only asked where Python itself found no compiled one.
    """

    @staticmethod
    def find_spec(
        fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the stand-in's spec under the name ``mmcv._ext``; None for others, if switched off or uninstalled."""
        if fullname != 'mmcv._ext' or os.environ.get(SWITCH) == '0':
            return None
        from importlib.util import find_spec, spec_from_file_location

        try:
            stand_in = find_spec(STAND_IN)
        except ModuleNotFoundError:
            return None
        if stand_in is None or stand_in.origin is None:
            return None
        return spec_from_file_location(fullname, stand_in.origin)


def install() -> bool:
    """Put the finder at the end of ``sys.meta_path``, once; tells whether it did: not if it is switched off."""
    if os.environ.get(SWITCH) == '0':
        return False
    if any(getattr(finder, '__name__', None) == MmcvExtFinder.__name__ for finder in sys.meta_path):
        return False
    sys.meta_path.append(MmcvExtFinder)
    return True
