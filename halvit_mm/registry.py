"""Registry nodes of the scope ``halvit_mm``, children of mmengine's.

Configs of any host refer to what is registered here by the scope, for
example ``type='halvit_mm.HaLViT'``. The modules of a registry are imported
when something is first looked up in it, so that ``import halvit_mm`` is quick.
"""

from .compat import missing_host_message

try:
    from mmengine import registry as mmengine_registry
except ModuleNotFoundError as error:
    raise ImportError(missing_host_message()) from error


def _child(
    parent: mmengine_registry.Registry, location: str
) -> mmengine_registry.Registry:
    return mmengine_registry.Registry(
        parent.name,
        parent=parent,
        scope='halvit_mm',
        locations=[f'halvit_mm.{location}'],
    )


MODELS = _child(mmengine_registry.MODELS, 'models')
DATASETS = _child(mmengine_registry.DATASETS, 'datasets')
TRANSFORMS = _child(mmengine_registry.TRANSFORMS, 'datasets')
METRICS = _child(mmengine_registry.METRICS, 'datasets')
OPTIM_WRAPPERS = _child(mmengine_registry.OPTIM_WRAPPERS, 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    mmengine_registry.OPTIM_WRAPPER_CONSTRUCTORS, 'engine'
)
DATA_SAMPLERS = _child(mmengine_registry.DATA_SAMPLERS, 'engine')
LOOPS = _child(mmengine_registry.LOOPS, 'engine')
HOOKS = _child(mmengine_registry.HOOKS, 'engine')
LOG_PROCESSORS = _child(mmengine_registry.LOG_PROCESSORS, 'engine')
VISBACKENDS = _child(mmengine_registry.VISBACKENDS, 'engine')
