"""Training and testing, for detection and classification alike."""

import json
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Dict, Optional

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import master_only
from mmengine.model import is_model_wrapper
from mmengine.registry import RUNNERS

from ..checkpoint import load_weights
from ..compression import convert, is_compressed_file
from ..engine import (
    AgreementHook,
    BrokenNumbersHook,
    FeatureCollapseHook,
    PicturesHook,
    ResumedScheduleHook,
    Runner,
    StepCheckpointHook,
    check_space,
    make_exact,
    watched,
)
from ..models import CompressedBackbone
from .coco_summary import coco_summary, print_coco_summary
from .learning_rate import warn_of_batch_size
from .run_folder import lock_folder
from .schedules import fit_schedule

_TIMEOUT = 1800  # seconds that processes wait for each other
_WATCHDOG_MINUTES = 25  # before the time of the process group is out


def build_runner(cfg: Config) -> Runner:
    """The runner of a config, its process group started where needed.

    Its processes wait for each other for half an hour, unless the config has
    another ``env_cfg.dist_cfg.timeout``.

    Raises:
        ValueError: If the launcher needs GPUs and there are none.
    """
    has_gpu = torch.cuda.is_available()
    if cfg.launcher in ('slurm', 'mpi') and not has_gpu:
        raise ValueError(
            f'--launcher {cfg.launcher} needs GPUs; on CPUs use '
            'tools/dist_train.sh'
        )
    dist_cfg = cfg.get('env_cfg', {}).get('dist_cfg', {})
    seconds = dist_cfg.get('timeout', _TIMEOUT)
    cfg.merge_from_dict({'env_cfg.dist_cfg.timeout': seconds})
    if cfg.launcher == 'pytorch' and not has_gpu and not dist.is_initialized():
        # mmengine's launcher asks for a GPU before it starts any backend.
        dist.init_process_group('gloo', timeout=timedelta(seconds=seconds))
    # Weights to start from are loaded by our loader, before the first step.
    start = None if cfg.get('resume') else cfg.pop('load_from', None)
    build = RUNNERS.build if 'runner_type' in cfg else Runner.from_cfg
    runner = build(cfg)
    if not isinstance(runner, Runner):
        runner.logger.warning(
            f'runner_type={cfg.runner_type} is no halvit_mm.engine.Runner: '
            'signals end its loader processes, and a full /dev/shm hangs them'
        )
    runner.register_hook(AgreementHook(load_from=start))
    return runner


def train(cfg: Config) -> Runner:
    """Train the model of a config.

    ``cfg.broken_numbers`` has the arguments of :class:`.BrokenNumbersHook`;
    None lets NaN and infinity pass. ``cfg.feature_collapse`` has those of
    :class:`.FeatureCollapseHook`, ``cfg.pictures`` those of
    :class:`.PicturesHook`, and None turns each off.
    ``cfg.step_checkpoints`` is the interval of :class:`.StepCheckpointHook`.
    A process without a sign of life for ``cfg.watchdog_minutes`` (25; None:
    for ever) is ended by :class:`.Watchdog`, in :func:`test` as well.

    Args:
        cfg: From :func:`.load_config`.

    Returns:
        The runner, after training.

    Raises:
        DataError: If the data cannot be used.
        OSError: If there is no space for two checkpoints.
        ValueError: If another training runs in the folder, or data set,
            evaluator, model and checkpoint do not fit.
        BrokenNumbersError: If losses or gradients stay NaN or infinite.
        SystemExit: If it is told to end, after its state is saved.
    """
    lock_folder(cfg.work_dir)
    runner = build_runner(cfg)
    check_space(cfg.work_dir, runner.model)
    runner.register_hook(ResumedScheduleHook())
    if make_exact(runner):
        interval = cfg.get('step_checkpoints', 1000)
        runner.register_hook(StepCheckpointHook(interval))
    else:
        runner.logger.warning(
            'the training is not by epochs: it is not resumed exactly, and '
            'signals end it unsaved'
        )
    broken = cfg.get('broken_numbers', {})
    if broken is not None:
        runner.register_hook(BrokenNumbersHook(**broken))
    collapse = cfg.get('feature_collapse', {})
    if collapse is not None:
        runner.register_hook(FeatureCollapseHook(**collapse))
    pictures = cfg.get('pictures', {})
    if pictures is not None:
        runner.register_hook(PicturesHook(**pictures))
    warn_of_batch_size(runner)
    fit_schedule(runner)
    with watched(runner, cfg.get('watchdog_minutes', _WATCHDOG_MINUTES)):
        runner.train()
    return runner


def test(
    cfg: Config,
    checkpoint: str,
    amp: Optional[str] = None,
    execution: Optional[str] = None,
) -> Dict[str, float]:
    """Evaluate a checkpoint on the test set.

    For COCO the detections are kept in ``<work_dir>/results.*.json`` and a
    table of their AP is printed, not rounded to three decimals as the host's.

    Args:
        cfg: From :func:`.load_config`.
        checkpoint: File of the whole model, or a compressed one.
        amp: ``'fp16'``, ``'bf16'`` or None.
        execution: How a compressed backbone computes: one of
            :data:`halvit_mm.compression.EXECUTIONS`, or None to keep its
            products between calls, which is as fast as ``'materialize'``.

    Returns:
        The value of each metric, as the host computes it.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it is not one of this model, or has no such execution.
    """
    # The runner's own loader would pass over differences.
    cfg.load_from, cfg.resume = None, False
    evaluator = cfg.get('test_evaluator')
    is_coco = isinstance(evaluator, dict) and evaluator.type.endswith(
        'CocoMetric'
    )
    if is_coco:
        evaluator.setdefault('outfile_prefix', f'{cfg.work_dir}/results')
    runner = build_runner(cfg)
    model = runner.model
    model = model.module if is_model_wrapper(model) else model
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, CompressedBackbone) and (
        execution or is_compressed_file(Path(checkpoint))
    ):
        raise ValueError(
            f'the config is not of a compressed model, as {checkpoint} is to '
            'be: take the config.py beside the compressed file'
        )
    dataset = runner.test_loop.dataloader.dataset
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    load_weights(model, checkpoint, classes=classes)
    if execution:
        convert(backbone.inner, execution)
    if amp:
        dtype = dict(fp16=torch.float16, bf16=torch.bfloat16)[amp]
        device_type = torch.device(get_device()).type
        autocast = partial(torch.autocast, device_type, dtype)
        runner.model.test_step = autocast()(runner.model.test_step)
    with watched(runner, cfg.get('watchdog_minutes', _WATCHDOG_MINUTES)):
        metrics = runner.test()
    if is_coco and not evaluator.get('format_only'):
        _report_coco(cfg, evaluator, dataset)
    return metrics


@master_only
def _report_coco(cfg: Config, evaluator, dataset) -> None:
    kinds = evaluator.get('metric', 'bbox')
    rcnn = cfg.model.get('test_cfg', {}).get('rcnn', {})
    max_dets = rcnn.get('max_per_img', 100)
    images = [dataset.get_data_info(i)['img_id'] for i in range(len(dataset))]
    summary = {
        kind: coco_summary(
            evaluator.get('ann_file') or dataset.ann_file,
            f'{evaluator.outfile_prefix}.{kind}.json',
            kind,
            max_dets,
            dataset.metainfo['classes'],
            images,
        )
        for kind in ([kinds] if isinstance(kinds, str) else kinds)
        if kind in ('bbox', 'segm')
    }
    print_coco_summary(summary, max_dets)
    path = Path(cfg.work_dir) / 'coco_summary.json'
    path.write_text(json.dumps(summary, indent=2))
