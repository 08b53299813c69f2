"""From a checkpoint to a folder with everything about its compression."""

import copy
from pathlib import Path
from typing import Callable, Optional

from mmengine.config import Config
from mmengine.device import get_device
from torch import nn

from ...checkpoint import (
    header_model,
    header_pipeline,
    load_weights,
    read_state_dict,
)
from ...compression import (
    FiPSConfig,
    Progress,
    is_compressed_file,
    plan_compression,
)
from ...compression.parametrization import BASES
from ...models import CompressedBackbone
from ...visualization import draw_compression
from ..config import dataset_metainfo
from ..model_info import build_model
from .backbone import CompressionResult, Plan, compress
from .data import calibration_batches
from .report import write_report


def compress_checkpoint(
    cfg: Config,
    checkpoint: str,
    config: FiPSConfig,
    out: Path,
    plan: Plan = lambda compression, plans: None,
    report: Callable[[Progress], None] = lambda progress: None,
    device: Optional[str] = None,
) -> CompressionResult:
    """Compress the backbone of a checkpoint.

    Args:
        cfg: Config of the classifier or detector.
        checkpoint: File of the whole model.
        config: Settings of the compression.
        out: Folder: ``compressed.safetensors``, ``config.py``, ``report.md``,
            ``report.json``, ``report.png`` and ``states``.
        plan: Called with what the calibration will take before it starts.
        report: Called after every step.
        device: Device to work on; by default the GPU, where there is one.

    Returns:
        The errors, sizes and times of the compressed model.

    Raises:
        ValueError: As :func:`load_original`,
            :func:`halvit_mm.compression.plan_compression` and
            :func:`.backbone.compress`.
        OSError: If the disk is full; states are kept.
    """
    model = load_original(cfg, checkpoint).to(device or get_device())
    # First what may be refused, before anything takes time.
    compression = plan_compression(copy.deepcopy(model.backbone), config)
    batches = calibration_batches(
        cfg, model, config.num_batches, config.batch_size, config.seed
    )
    out.mkdir(parents=True, exist_ok=True)
    # The file is found wherever the folder is moved to.
    beside = compressed_config(cfg, Path('{{ fileDirname }}'))
    file = out / 'compressed.safetensors'
    result = compress(
        model,
        compression,
        batches,
        out,
        plan,
        report,
        dataset_meta(cfg, file),
        header_model(beside.model.to_dict(), file),
    )
    rows = write_report(result, out, Path(cfg.filename).stem)
    draw_compression(
        [row['unit'] for row in rows],
        [float(row['density']) for row in rows],
        [error.before for error in result.errors],
        [error.after for error in result.errors],
        str(out / 'report.png'),
    )
    beside.dump(str(out / 'config.py'))
    return result


def load_original(cfg: Config, checkpoint: str) -> nn.Module:
    """Build the model of a config with the weights of a file.

    Args:
        cfg: Config of a classifier or detector.
        checkpoint: File of the whole model.

    Returns:
        The model in eval mode.

    Raises:
        ValueError: If the model or the file is compressed already, or if the
            checkpoint does not fit.
    """
    model = build_model(cfg)
    way_out = 'is compressed already: take the checkpoint it was made from'
    if isinstance(model.backbone, CompressedBackbone):
        raise ValueError(
            f"the config's backbone {way_out}, and that checkpoint's config"
        )
    if is_compressed_file(Path(checkpoint)):
        raise ValueError(f'{checkpoint} {way_out}')
    try:
        load_weights(model, checkpoint, min_coverage=1.0)
    except ValueError as error:
        if any(f'{BASES}.' in name for name in read_state_dict(checkpoint)):
            raise ValueError(f'{checkpoint} {way_out}') from error
        raise
    return model.eval()


def dataset_meta(cfg: Config, path: Path) -> dict:
    """Read what a file says about its classes and images.

    Args:
        cfg: Config of the model.
        path: The file.

    Returns:
        The ``meta`` of a checkpoint, as far as the config tells, and the
        ``test_pipeline`` of a header.
    """
    found = {}
    if metainfo := dataset_metainfo(cfg):
        found['dataset_meta'] = metainfo
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    if pipeline := dataset.get('pipeline'):
        steps = [dict(step) for step in pipeline]
        found['test_pipeline'] = header_pipeline(steps, path)
    return found


def compressed_config(cfg: Config, out: Path) -> Config:
    """Write a config that builds the compressed model.

    Args:
        cfg: Config of the original.
        out: Folder of :func:`compress_checkpoint`.

    Returns:
        The same with a compressed backbone in it; training starts from the
        compressed weights.
    """
    cfg = copy.deepcopy(cfg)
    cfg.pop('fips', None)
    cfg.pop('work_dir', None)
    cfg.model.backbone = dict(
        type='halvit_mm.CompressedBackbone',
        backbone=dict(cfg.model.backbone, init_cfg=None),
        checkpoint=str(out / 'compressed.safetensors'),
    )
    cfg.load_from = str(out / 'compressed.safetensors')  # the head, too
    return cfg
