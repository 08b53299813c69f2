"""Loading of configs, with the options of the command line."""

from pathlib import Path
from typing import Iterator, List, Optional, Sequence

import torch
from mmdet.registry import DATASETS
from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.utils import import_modules_from_strings

from ..checkpoint import find_checkpoint, read_classes, read_meta
from ..datasets import read_coco
from .learning_rate import enable_auto_scale_lr
from .options import check_options
from .schedules import follow_options, run_length

AMP_CHOICES = ('fp16', 'bf16')
_DATALOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def load_config(
    path: str,
    cfg_options: Optional[dict] = None,
    work_dir: Optional[str] = None,
    amp: Optional[str] = None,
    resume: Optional[str] = None,
    launcher: str = 'none',
    read_data: bool = True,
    auto_scale_lr: bool = False,
    checkpoint: Optional[str] = None,
) -> Config:
    """Load a config and apply the options of a command line.

    Two options change more than their key: ``data_root`` moves every data
    set and evaluator, and ``classes``, a list of names, or ``auto`` for those
    of the training annotations, sets ``num_classes`` in every head, too.

    Args:
        path: Config file.
        cfg_options: Dotted key -> value.
        work_dir: Output folder; by default that of the config, or else
            ``work_dirs/<name of the config>``.
        amp: ``'fp16'`` (GPU), ``'bf16'`` or None.
        resume: ``'auto'`` for the newest whole checkpoint of the work
            directory, ``'auto-or-new'`` to start anew without one, a path, or
            None.
        launcher: As the tools' option ``--launcher``.
        read_data: Whether ``classes=auto`` reads the annotations.
        auto_scale_lr: Whether the learning rate is scaled with the batch.
        checkpoint: What is tested; ``classes=auto`` takes its classes, where
            it has them, before those of the annotations.

    Returns:
        The config, ready for mmengine's Runner.

    Raises:
        FileNotFoundError: If there is nothing to resume from.
        ValueError: If an option is unknown or cannot be applied.
    """
    cfg = Config.fromfile(path)
    options = cfg_options or {}
    check_options(cfg, options)
    launcher = options.get('launcher', launcher)
    roots = (dataset.get('data_root') for dataset in _datasets(cfg))
    old_root = cfg.get('data_root') or next(filter(None, roots), '')
    length = run_length(cfg)
    cfg.merge_from_dict(options)
    follow_options(cfg, options, length)
    _mend_workers(cfg)
    if any(key.startswith('custom_imports') for key in options):
        import_modules_from_strings(**cfg.custom_imports)
    if 'data_root' in options:
        _move_data(cfg, old_root, str(options['data_root']))
    classes = options.get('classes', cfg.get('classes'))
    if classes == 'auto' and read_data:
        names = read_classes(checkpoint) if checkpoint else None
        set_classes(cfg, names or _class_names(cfg))
    elif classes != 'auto' and options.get('classes'):
        set_classes(cfg, [str(name) for name in classes])
    cfg.work_dir = (
        work_dir or cfg.get('work_dir') or f'work_dirs/{Path(path).stem}'
    )
    cfg.launcher = launcher
    if amp:
        _apply_amp(cfg, amp)
    if auto_scale_lr:
        enable_auto_scale_lr(cfg)
    if not resume and cfg.get('resume'):  # as the host takes it
        resume = cfg.get('load_from') or 'auto-or-new'
    if resume:
        _apply_resume(cfg, resume)
    if launcher != 'none' and not torch.cuda.is_available():
        # Otherwise MMDistributedDataParallel would get the number of a GPU.
        wrapper = cfg.get('model_wrapper_cfg') or dict(
            type='MMDistributedDataParallel',
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        )
        cfg.model_wrapper_cfg = dict(wrapper, device_ids=None)
    return cfg


def _mend_workers(cfg: Config) -> None:
    """Without workers none can persist or fetch ahead: torch refuses that."""
    changed = []
    for name in _DATALOADERS:
        loader = cfg.get(name) or {}
        if not loader.get('num_workers', 0):
            ahead = loader.pop('prefetch_factor', None)
            if loader.get('persistent_workers') or ahead:
                loader.persistent_workers = False
                changed.append(name)
    if changed:
        print_log(
            'num_workers=0: no persistent_workers, no prefetch_factor in '
            f'{", ".join(changed)}',
            logger='current',
        )


def _datasets(cfg: Config) -> Iterator[ConfigDict]:
    """Iterate over the configs of all data sets, also inside wrappers."""
    for name in _DATALOADERS:
        found = [(cfg.get(name) or {}).get('dataset')]
        while found:
            dataset = found.pop(0) or {}
            inner = [dataset.get('dataset'), *dataset.get('datasets', [])]
            found += filter(None, inner)
            if dataset and not any(inner):
                yield dataset


def _evaluators(cfg: Config) -> Iterator[ConfigDict]:
    for name in ('val_evaluator', 'test_evaluator'):
        yield from _listed(cfg.get(name))


def _listed(configs) -> list:
    """One config, a list of them or None, as a list."""
    return [configs] if isinstance(configs, dict) else list(configs or [])


def _move_data(cfg: Config, old: str, new: str) -> None:
    """Move every path under ``old`` to ``new``, and leave others alone."""
    old_prefix, new_prefix = old.rstrip('/') + '/', new.rstrip('/') + '/'
    for dataset in _datasets(cfg):
        if (dataset.get('data_root') or '').rstrip('/') == old.rstrip('/'):
            dataset.data_root = new_prefix
    for evaluator in _evaluators(cfg):
        ann_file = evaluator.get('ann_file') or ''
        if ann_file.startswith(old_prefix):
            evaluator.ann_file = new_prefix + ann_file[len(old_prefix) :]


def _class_names(cfg: Config) -> List[str]:
    dataset = next(_datasets(cfg), {})
    if 'ann_file' not in dataset:
        raise ValueError('classes=auto needs COCO annotations for training')
    path = Path(dataset.get('data_root') or '') / dataset['ann_file']
    if not path.is_file():
        raise FileNotFoundError(
            f'classes=auto reads the training annotations, but there is no '
            f'{path}'
        )
    folder = (dataset.get('data_prefix') or {}).get('img', '')
    folder = Path(dataset.get('data_root') or '') / folder
    return list(read_coco(path, str(folder)).class_counts())


def set_classes(cfg: Config, names: Sequence[str]) -> None:
    """Give every data set these classes, and every head their number."""
    for dataset in _datasets(cfg):
        dataset['metainfo'] = dict(classes=tuple(names))
    _set_num_classes(cfg.model, len(names))


def dataset_metainfo(cfg: Config) -> dict:
    """What a detector's test set knows of its classes: names and colours."""
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    found = dataset.get('metainfo') or {}
    if 'classes' not in found and 'type' in dataset:
        kind = DATASETS.get(dataset['type'])
        found = {**getattr(kind, 'METAINFO', {}), **found}
    found = dict(found)
    if isinstance(found.get('classes'), str):  # ('cat') is no tuple
        found['classes'] = (found['classes'],)
    return found


def _set_num_classes(node, num_classes: int) -> None:
    """Set ``num_classes`` wherever a head of the model has one."""
    if isinstance(node, dict):
        if 'num_classes' in node:
            node['num_classes'] = num_classes
        for child in node.values():
            _set_num_classes(child, num_classes)
    elif isinstance(node, (list, tuple)):
        for child in node:
            _set_num_classes(child, num_classes)


def _apply_amp(cfg: Config, amp: str) -> None:
    if amp not in AMP_CHOICES:
        raise ValueError(f'amp={amp!r}: choose one of {AMP_CHOICES}')
    if amp == 'bf16':
        cfg.optim_wrapper.type = 'halvit_mm.BFloat16OptimWrapper'
        for key in ('dtype', 'loss_scale'):  # of AmpOptimWrapper
            cfg.optim_wrapper.pop(key, None)
        return
    if not torch.cuda.is_available():
        raise ValueError('--amp fp16 needs a GPU; --amp bf16 runs on any CPU')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.dtype = 'float16'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def _apply_resume(cfg: Config, resume: str) -> None:
    if resume in ('auto', 'auto-or-new'):
        found = find_checkpoint(cfg.work_dir)
        if found is None and resume == 'auto':
            raise FileNotFoundError(
                f'--resume: there is no whole checkpoint in {cfg.work_dir}; '
                'name the folder with --work-dir, or start anew: drop '
                '--resume, or `--resume auto-or-new` for jobs that start again'
            )
        if found is None:
            print_log(
                f'--resume auto-or-new: nothing in {cfg.work_dir} to resume, '
                'starts anew',
                logger='current',
            )
            cfg.resume = False
            return
        resume = found
    elif not Path(resume).is_file():
        raise FileNotFoundError(f'--resume: there is no {resume}')
    cfg.resume, cfg.load_from = True, resume
    # before samplers are built with another one
    if (seed := read_meta(resume).get('seed')) is not None:
        cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)
    # What is resumed holds all weights; the pretrained file may be gone.
    backbone = cfg.model.get('backbone') or {}
    init_cfgs = _listed(backbone.get('init_cfg'))
    if any(init_cfg['type'] == 'Pretrained' for init_cfg in init_cfgs):
        backbone.init_cfg = None
