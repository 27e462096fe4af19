"""Child registries of MMEngine's: ``type='mmlocalmamba.X'`` resolves in any config with nothing imported by hand.

MMEngine imports this module when it first meets the scope ``mmlocalmamba``, and the ``locations`` when a name of that
scope is looked up. Without MMEngine there are no configs, and nothing is registered.
"""

from typing import Any

from .compat.engine import HAS_MMENGINE, Registry
from .compat.torch_load import register_safe_globals

# Whoever uses our models is about to load their weights, and mmengine 0.10.7 has no list of its own.
register_safe_globals()


def _child(kind: str, parent: str, *locations: str) -> Any:
    """Make the child of one of MMEngine's registries, filled by what the locations import."""
    if not HAS_MMENGINE:
        return Registry(kind)
    import mmengine.registry

    return Registry(
        kind,
        parent=getattr(mmengine.registry, parent),
        scope='mmlocalmamba',
        locations=[f'mmlocalmamba.{location}' for location in locations],
    )


MODELS = _child('model', 'MODELS', 'models', 'engine.averaging')
HOOKS = _child('hook', 'HOOKS', 'engine', 'search')
OPTIM_WRAPPERS = _child('optimizer wrapper', 'OPTIM_WRAPPERS', 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child('optimizer wrapper constructor', 'OPTIM_WRAPPER_CONSTRUCTORS', 'engine')
DATASETS = _child('dataset', 'DATASETS', 'datasets')
TRANSFORMS = _child('transform', 'TRANSFORMS', 'datasets')
METRICS = _child('metric', 'METRICS', 'evaluation')
