"""What the models take from MMEngine, or from :mod:`mmlocalmamba.compat.without_mmengine` where it is not installed.

The backbones need PyTorch and timm alone. Configs, runners and everything else of the mm packages need MMEngine.
"""

from importlib.util import find_spec

HAS_MMENGINE = find_spec('mmengine') is not None

if HAS_MMENGINE:
    from mmengine.config import ConfigDict
    from mmengine.dist import all_gather_object, get_rank
    from mmengine.logging import HistoryBuffer, print_log
    from mmengine.model import BaseModule, PretrainedInit, initialize
    from mmengine.registry import Registry
else:
    from .without_mmengine import (
        BaseModule,
        ConfigDict,
        HistoryBuffer,
        PretrainedInit,
        Registry,
        all_gather_object,
        get_rank,
        initialize,
        print_log,
    )

__all__ = [
    'HAS_MMENGINE',
    'BaseModule',
    'ConfigDict',
    'HistoryBuffer',
    'PretrainedInit',
    'Registry',
    'all_gather_object',
    'get_rank',
    'initialize',
    'print_log',
]
