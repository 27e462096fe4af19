"""Bridges gaps between the mm packages, today's torch and this package.

- :mod:`~mmlocalmamba.compat.config_names`: our configs' names in ``_base_`` (:func:`install`).
- :mod:`~mmlocalmamba.compat.mmcv_ext`: mmcv's compiled operators, where they are missing (:func:`install`).
- :mod:`~mmlocalmamba.compat.torch_load`: checkpoints of MMEngine under ``torch.load(weights_only=True)``.
"""

import logging
import sys
from importlib.util import find_spec

from . import config_names, finder

EXPLICIT_WAY = 'python -m mmlocalmamba.compat enable'


def install() -> None:
    """Let ``mmcv._ext`` and our configs be found.

    Warns if mmdet was imported before and has already bound functions that raise.
    """
    config_names.install()
    if finder.install() and 'mmdet.structures' in sys.modules and 'mmcv._ext' not in sys.modules:
        logging.getLogger('mmlocalmamba').warning(
            'mmdet was imported before mmlocalmamba, and without the compiled operators of mmcv: its operators will '
            'raise ("requires mmcv to be compiled with ops"). Import mmlocalmamba first, or run once in this '
            'environment: %s',
            EXPLICIT_WAY,
        )


def ext_state() -> str:
    """Return what ``import mmcv._ext`` finds in this process: 'compiled', 'stand-in', or 'missing'."""
    try:
        spec = find_spec('mmcv._ext')
    except ModuleNotFoundError:  # no mmcv at all
        return 'missing'
    if spec is None or spec.origin is None:
        return 'missing'
    return 'stand-in' if spec.origin.endswith('mmcv_ext.py') else 'compiled'


__all__ = ['ext_state', 'install']
