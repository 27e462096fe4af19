"""Lets ``mmcv.ops`` tell the truth about operators that the stand-in for ``mmcv._ext`` lacks.

All of ``mmcv.ops`` is imported at once, and each of its files asks ``mmcv._ext`` for operators by name. The stand-in
has to say yes to all of them there, or nothing could be imported. Afterwards, what needs a missing operator is hidden:

- ``try: from mmcv.ops import X`` and ``hasattr(mmcv.ops, 'X')`` find no X, so that code which asks takes its other way.
- OpenMMLab's own packages do not ask: they import many names that a run may never use, and cannot be imported without
  them. They are given X, and only its use raises :class:`MissingOperatorError`.
"""

from __future__ import annotations

import dis
import sys
from types import FrameType, ModuleType
from typing import Any

PACKAGE = 'mmcv.ops'
HAVE = frozenset({'nms', 'batched_nms', 'NMSop', 'MultiScaleDeformableAttention'})
"""Names that work although their files ask for more operators than the stand-in has."""

IMPORTERS = frozenset({'mmcv', 'mmdet', 'mmengine', 'mmseg'})
"""Packages that are given what is missing."""

HOW_TO_GET_FULL_MMCV = (
    'Build mmcv with its operators (needs a C++ compiler, and nvcc for CUDA; tens of minutes): '
    'MMCV_WITH_OPS=1 pip install --no-build-isolation --no-binary :all: --no-deps --force-reinstall onedl-mmcv '
    '(or mmcv==2.1.0 for the original packages). MMLOCALMAMBA_MMCV_EXT=0 in the environment switches the stand-in off.'
)


class MissingOperatorError(AttributeError, NotImplementedError):
    """Something needs an operator of mmcv that is not installed; for ``hasattr``, it is not there."""


def missing(name: str) -> str:
    """Return the sentence that names an operator, or a name of ``mmcv.ops``, that is missing."""
    return (
        f"{name!r} needs mmcv's compiled operators, which are not installed; the stand-in of mmlocalmamba has nms, "
        f'roi_align and ms_deform_attn only. {HOW_TO_GET_FULL_MMCV}'
    )


def is_loading() -> bool:
    """Tell whether ``mmcv.ops`` is being imported at this moment."""
    module = sys.modules.get(PACKAGE)
    return module is not None and '__all__' not in vars(module)  # the last thing that it defines


def mark(frame: FrameType | None) -> None:
    """Note that the file of ``mmcv.ops`` whose code is running lacks an operator.

    Args:
        frame: Where to start to look for that file: outwards, from callee to caller.
    """
    while frame is not None:
        name = frame.f_globals.get('__name__', '')
        if name.startswith(f'{PACKAGE}.'):
            for module in (sys.modules[name], sys.modules[PACKAGE]):
                module.__class__ = PartialModule
            return
        frame = frame.f_back


class PartialModule(ModuleType):
    """A module of ``mmcv.ops``, or the package, some of whose names need an operator that is missing."""

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name == '__all__':
            return [each for each in value if not _is_missing(each, vars(self).get(each))]
        if name.startswith('_'):
            return value
        is_missing = _is_missing(name, value)
        if not is_missing and not isinstance(value, PartialModule):
            return value
        importer = sys._getframe(1)
        importer_name = importer.f_globals.get('__name__', '')
        if f'{importer_name}.'.startswith(f'{PACKAGE}.'):
            mark(importer)  # what a file builds upon a missing operator lacks it, too
        elif is_missing and importer_name.partition('.')[0] not in IMPORTERS:
            # After an AttributeError, "from mmcv.ops import X" would take the file mmcv/ops/X.py in its place.
            raise ModuleNotFoundError(missing(name)) if _is_import(importer) else MissingOperatorError(missing(name))
        return value

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if not _is_missing(name, vars(self).get(name))]


def _is_missing(name: str, value: Any) -> bool:
    owner = getattr(value, '__self__', value)  # RoIPoolFunction, of roi_pool = RoIPoolFunction.apply
    file = sys.modules.get(str(getattr(owner, '__module__', '')))
    return isinstance(file, PartialModule) and name not in HAVE


def _is_import(frame: FrameType) -> bool:
    """Tell whether a frame is at a ``from ... import``."""
    return frame.f_lasti >= 0 and dis.opname[frame.f_code.co_code[frame.f_lasti]] == 'IMPORT_FROM'
