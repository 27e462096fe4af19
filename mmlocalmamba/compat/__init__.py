"""Bridges gaps between the mm packages, today's torch and this package.

- :mod:`~mmlocalmamba.compat.config_names`: our configs' names in ``_base_`` (:func:`install`).
- :mod:`~mmlocalmamba.compat.mmcv_ext`: mmcv's compiled operators, where they are missing (:func:`install`);
  ``MMLOCALMAMBA_MMCV_EXT=0`` in the environment switches this off.
- :mod:`~mmlocalmamba.compat.checkpoint_loaders`: MMEngine's loading of checkpoints runs no code (:func:`install`).
- :mod:`~mmlocalmamba.compat.torch_load`: checkpoints of MMEngine under ``torch.load(weights_only=True)``.
"""

import logging
import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec

from . import checkpoint_loaders, config_names, finder

EXPLICIT_WAY = 'python -m mmlocalmamba.compat enable'


def install() -> None:
    """Let our configs' names be found, make loading safe, and give mmcv its ``_ext``, unless that is switched off.

    Warns if mmdet was imported before, and has already bound functions that raise.
    """
    config_names.install()
    checkpoint_loaders.install()
    if _lacks_operators() and finder.install() and 'mmdet.structures' in sys.modules and 'mmcv._ext' not in sys.modules:
        logging.getLogger('mmlocalmamba').warning(
            'mmdet was imported before mmlocalmamba, and without the compiled operators of mmcv: its operators will '
            'raise ("requires mmcv to be compiled with ops"). Import mmlocalmamba first, or run once in this '
            'environment: %s',
            EXPLICIT_WAY,
        )


def _lacks_operators() -> bool:
    """Tell whether mmcv is there without its compiled operators; imports nothing."""
    try:
        mmcv = find_spec('mmcv')
    except (ModuleNotFoundError, ValueError):  # hidden by someone, or replaced by what is no module
        return False
    return mmcv is not None and PathFinder.find_spec('mmcv._ext', mmcv.submodule_search_locations) is None


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
