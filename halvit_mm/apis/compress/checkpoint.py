"""From a checkpoint to a folder with everything about its compression."""

from pathlib import Path
from typing import Callable, Optional

from mmengine.config import Config
from mmengine.device import get_device

from ...compression import Progress, find_groups, structure_of
from ...visualization import draw_compression
from .data import calibration_batches
from .report import write_report
from .run import (
    CompressionResult,
    Plan,
    compress,
    compressed_config,
    dataset_meta,
    load_original,
)
from .settings import FiPSSettings

__all__ = ['compress_checkpoint']


def compress_checkpoint(
    cfg: Config,
    checkpoint: str,
    settings: FiPSSettings,
    out: Path,
    plan: Plan = lambda groups, plans: None,
    report: Callable[[Progress], None] = lambda progress: None,
    device: Optional[str] = None,
) -> CompressionResult:
    """Compress the backbone of a checkpoint.

    Args:
        cfg: Of the classifier or detector.
        checkpoint: Of the whole model.
        settings: How.
        out: Folder: ``compressed.safetensors``, ``config.py``, ``report.md``,
            ``report.json``, ``report.png`` and ``states``.
        plan: Told what the calibration will take before it starts.
        report: Told after every step.
        device: To work on; by default the GPU, where there is one.

    Returns:
        What it gave.

    Raises:
        ValueError, OSError: As :func:`.run.load_original` and
            :func:`.run.compress`.
    """
    out.mkdir(parents=True, exist_ok=True)
    model = load_original(cfg, checkpoint)
    for group in find_groups(  # what cannot be met, before anything takes time
        model.backbone, settings.groups, settings.square
    ):
        structure_of(
            group, settings.budget, settings.sparsity, scaled=settings.scaled
        )
    model.to(device or get_device())
    batches = calibration_batches(
        cfg, model, settings.num_batches, settings.batch_size, settings.seed
    )
    meta = dataset_meta(cfg)
    result = compress(model, settings, batches, out, plan, report, meta)
    rows = write_report(result, out, Path(cfg.filename).stem)
    draw_compression(
        [row[0] for row in rows],
        [float(row[2]) for row in rows],
        [error.before for error in result.errors],
        [error.after for error in result.errors],
        str(out / 'report.png'),
    )
    # The file is found wherever the folder is moved to.
    beside = compressed_config(cfg, Path('{{ fileDirname }}'))
    beside.dump(str(out / 'config.py'))
    return result
