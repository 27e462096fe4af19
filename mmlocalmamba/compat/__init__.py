"""Bridges two gaps between the mm packages and today's torch.

- :mod:`~mmlocalmamba.compat.mmcv_ext`: mmcv's compiled operators, where they are missing (:func:`install`).
- :mod:`~mmlocalmamba.compat.torch_load`: checkpoints of MMEngine under ``torch.load(weights_only=True)``.
"""

from .finder import MmcvExtFinder, install

__all__ = ['MmcvExtFinder', 'install']
