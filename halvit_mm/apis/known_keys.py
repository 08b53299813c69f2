"""Which keys a config may have at a place."""

import inspect
from difflib import get_close_matches
from importlib import import_module
from typing import Callable, Dict, List, Set, Tuple

from mmengine import registry
from mmengine.optim import OptimWrapper
from mmengine.runner import (
    EpochBasedTrainLoop,
    IterBasedTrainLoop,
    LogProcessor,
    Runner,
    TestLoop,
    ValLoop,
)
from torch.utils.data import DataLoader

from ..compression import CalibrationConfig, FiPSConfig, PruneConfig

#: Top-level keys that mmengine's Runner or our tools read.
KNOWN_KEYS = {
    *inspect.signature(Runner.__init__).parameters,
    # read by the Runner from its `cfg`
    *('activation_checkpointing', 'compile', 'efficient_conv_bn_eval'),
    *('find_unused_parameters', 'model_wrapper_cfg', 'sync_bn'),
    # read where a config is loaded or a runner built
    *('custom_imports', 'runner_type', 'tta_model', 'tta_pipeline'),
    # ours
    *('broken_numbers', 'classes', 'data_root', 'fips', 'fit_schedule'),
    *('feature_collapse', 'pictures', 'prune', 'step_checkpoints'),
    *('tie', 'watchdog_minutes'),
} - {'self', 'cfg'}

#: Keys for what builds, beside the constructor's.
KEYS_OF_BUILDERS = {'type', '_scope_', '_delete_', 'by_epoch', 'requires_grad'}
KEYS_OF_BUILDERS |= {'made_by', 'convert_to_iter_based'}
KEYS_OF_BUILDERS |= {'constructor', 'paramwise_cfg'}  # of optim_wrapper
KEYS_OF_BUILDERS |= {'loss_scale', 'dtype'}  # for --amp, which sets the type

_OF_DATALOADERS = [registry.DATASETS, registry.TRANSFORMS]
_OF_DATALOADERS += [registry.DATA_SAMPLERS, registry.FUNCTIONS]
_OF_MODELS = [registry.MODELS, registry.TASK_UTILS]
_OF_MODELS += [registry.WEIGHT_INITIALIZERS]
#: Top-level key -> where the types below it are registered.
_REGISTRIES = dict(
    model=_OF_MODELS,
    data_preprocessor=_OF_MODELS,
    model_wrapper_cfg=[registry.MODEL_WRAPPERS],
    val_evaluator=[registry.METRICS, registry.EVALUATOR],
    test_evaluator=[registry.METRICS, registry.EVALUATOR],
    train_cfg=[registry.LOOPS],
    val_cfg=[registry.LOOPS],
    test_cfg=[registry.LOOPS],
    optim_wrapper=[registry.OPTIM_WRAPPERS, registry.OPTIMIZERS],
    param_scheduler=[registry.PARAM_SCHEDULERS],
    default_hooks=[registry.HOOKS],
    custom_hooks=[registry.HOOKS],
    visualizer=[registry.VISUALIZERS, registry.VISBACKENDS],
    log_processor=[registry.LOG_PROCESSORS],
)


#: Top-level key -> what takes its keys where it has no type.
_WITHOUT_TYPE: Dict[str, List[Callable]] = dict(
    val_cfg=[ValLoop],
    test_cfg=[TestLoop],
    optim_wrapper=[OptimWrapper],
    log_processor=[LogProcessor],
    randomness=[Runner.set_randomness],
    fips=[FiPSConfig],
    prune=[PruneConfig],
    tie=[CalibrationConfig],
    auto_scale_lr=[lambda enable, base_batch_size: None],
    env_cfg=[
        lambda cudnn_benchmark, mp_cfg, dist_cfg, resource_limit: None,
    ],
)
for _name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
    _REGISTRIES[_name] = _OF_DATALOADERS
    _WITHOUT_TYPE[_name] = [
        DataLoader,
        lambda num_batch_per_epoch, disable_subprocess_warning: None,
    ]


def known_keys(
    node, option: dict, path: Tuple[str, ...], scope: str
) -> Set[str]:
    """Find the keys that a node of a config may have.

    They are those that it has and those that the constructor of its ``type``
    takes. Where there is no type, or nothing is registered for it, or its
    constructor takes any key, all keys are known but those that are nearly
    one of these.

    Args:
        node: A dict or a list.
        option: What is to be merged into it.
        path: The keys that lead to it.
        scope: Where its type is looked up.

    Returns:
        The keys, among them those of the option that are known.
    """
    if isinstance(node, list):
        return {str(index) for index in range(len(node))}
    known = {*map(str, node), *KEYS_OF_BUILDERS}
    kind = option.get('type', node.get('type'))
    takers = [] if len(path) > 1 else _WITHOUT_TYPE.get(path[0], [])
    if kind is not None:
        scope = {**node, **option}.get('_scope_', scope)
        takers = _registered(kind, path[0], scope)
    elif path == ('train_cfg',):
        by_epoch = {**node, **option}.get('by_epoch', True)
        takers = [EpochBasedTrainLoop if by_epoch else IterBasedTrainLoop]
    is_open = not takers
    for taker in takers:
        names, takes_any = _arguments(taker)
        known |= names
        is_open |= takes_any
    for key in option.keys() - known if is_open else ():
        # A number would be meant for a list, which is not there.
        if not key.isdigit() and not get_close_matches(key, known, 1, 0.85):
            known.add(key)
    return known


def _registered(kind, key: str, scope) -> List[Callable]:
    """What is registered as a type; empty if there is nothing."""
    if not isinstance(kind, str):
        return [kind]
    try:
        import_module(f'{scope}.registry')
    except ImportError:
        return []
    found = []
    for root in _REGISTRIES.get(key, []):
        try:
            found.append(root.children.get(scope, root).get(kind))
        except RuntimeError:  # not in this one
            continue
    return [taker for taker in found if taker is not None]


def _arguments(taker: Callable) -> Tuple[Set[str], bool]:
    """Names of the arguments, and whether there may be any others.

    A class that takes further ones passes them on to its base.
    """
    inits = [taker]
    if inspect.isclass(taker):
        owners = [c for c in taker.__mro__[:-1] if '__init__' in vars(c)]
        inits = [vars(owner)['__init__'] for owner in owners]
    names: Set[str] = set()
    for init in inits:
        parameters = inspect.signature(init).parameters.values()
        names |= {parameter.name for parameter in parameters} - {'self'}
        if all(p.kind is not p.VAR_KEYWORD for p in parameters):
            return names, False
    return names, bool(inits)
