"""Child registries of MMEngine's: ``type='mmlocalmamba.X'`` resolves in any config with nothing imported by hand.

MMEngine imports this module when it first meets the scope ``mmlocalmamba``, and the ``locations`` when a name of that
scope is looked up.
"""

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

from .compat.torch_load import register_safe_globals

# Whoever uses our models is about to load their weights, and mmengine 0.10.7 has no list of its own.
register_safe_globals()

MODELS = Registry('model', parent=MMENGINE_MODELS, scope='mmlocalmamba', locations=['mmlocalmamba.models'])
HOOKS = Registry(
    'hook', parent=MMENGINE_HOOKS, scope='mmlocalmamba', locations=['mmlocalmamba.engine', 'mmlocalmamba.search']
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    scope='mmlocalmamba',
    locations=['mmlocalmamba.engine'],
)
DATASETS = Registry('dataset', parent=MMENGINE_DATASETS, scope='mmlocalmamba', locations=['mmlocalmamba.datasets'])
TRANSFORMS = Registry(
    'transform', parent=MMENGINE_TRANSFORMS, scope='mmlocalmamba', locations=['mmlocalmamba.datasets']
)
METRICS = Registry('metric', parent=MMENGINE_METRICS, scope='mmlocalmamba', locations=['mmlocalmamba.evaluation'])
