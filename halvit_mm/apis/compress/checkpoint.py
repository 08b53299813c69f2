"""From a checkpoint to a folder with everything about its compression."""

import copy
from pathlib import Path
from typing import Callable, Optional, Tuple, Union

from mmengine.config import Config
from mmengine.device import get_device
from torch import nn

from ...checkpoint import (
    header_model,
    header_pipeline,
    load_weights,
    read_state_dict,
)
from ...checkpoint.log import say
from ...compression import (
    FiPSConfig,
    Progress,
    PruneConfig,
    is_compressed_file,
    plan_compression,
    plan_pruning,
)
from ...compression.parametrization import BASES
from ...models import CompressedBackbone
from ..config import dataset_metainfo
from ..model_info import build_model
from .backbone import FILE, CompressionResult, Plan, compress
from .data import calibration_batches
from .report import write_report
from .widths import pruned_config


def compress_checkpoint(
    cfg: Config,
    checkpoint: str,
    config: Union[FiPSConfig, PruneConfig],
    out: Path,
    plan: Plan = lambda compression, plans: None,
    report: Callable[[Progress], None] = lambda progress: None,
    device: Optional[str] = None,
) -> CompressionResult:
    """Compress the backbone of a checkpoint.

    Args:
        cfg: Config of the classifier or detector.
        checkpoint: File of the whole model, or of its backbone; then the file
            that is written is of the backbone, too.
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
            :func:`halvit_mm.compression.plan_compression`,
            :func:`halvit_mm.compression.plan_pruning` and
            :func:`.backbone.compress`.
        OSError: If the disk is full; states are kept.
    """
    model, is_whole = load_original(cfg, checkpoint)
    model = model.to(device or get_device())
    # First what may be refused, before anything takes time.
    file = out / FILE
    beside = '{{ fileDirname }}/' + FILE  # wherever the folder is moved to
    backbone = copy.deepcopy(model.backbone)
    if isinstance(config, PruneConfig):
        compression = plan_pruning(backbone, config)
        smaller = pruned_config(cfg, backbone, compression.widths, beside)
    else:
        compression = plan_compression(backbone, config)
        smaller = compressed_config(cfg, beside)
    batches, held_out = calibration_batches(cfg, model, config)
    described = describe(cfg, file)
    if is_whole:
        described['model'] = header_model(smaller.model.to_dict(), file)
    else:
        smaller.load_from = None
        model = nn.ModuleDict(dict(backbone=model.backbone))
    out.mkdir(parents=True, exist_ok=True)
    result = compress(
        model, compression, batches, out, plan, report, held_out, described
    )
    write_report(result, out, Path(cfg.filename).stem)
    smaller.dump(str(out / 'config.py'))
    return result


def load_original(cfg: Config, checkpoint: str) -> Tuple[nn.Module, bool]:
    """Build the model of a config with the weights of a file.

    Args:
        cfg: Config of a classifier or detector.
        checkpoint: File of the whole model or of its backbone, which also may
            be of another project.

    Returns:
        The model in eval mode, and whether the file is of the whole of it.

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
    names = read_state_dict(checkpoint)
    if any(f'{BASES}.' in name for name in names):
        raise ValueError(f'{checkpoint} {way_out}')
    others = tuple(
        f'{name}.'
        for name, part in model.named_children()
        if name != 'backbone' and part.state_dict()
    )
    is_whole = any(name.startswith(others) for name in names) or not others
    if is_whole:
        load_weights(model, checkpoint, min_coverage=1.0)
    else:
        say(
            f'{checkpoint} holds a backbone without {", ".join(others)}: only '
            'the backbone is compressed and saved'
        )
        load_weights(model.backbone, checkpoint, prefix='backbone.')
    return model.eval(), is_whole


def describe(cfg: Config, path: Path) -> dict:
    """Read what a file says about its classes and images.

    Args:
        cfg: Config of the model.
        path: The file.

    Returns:
        ``classes``, ``palette`` and ``test_pipeline`` of a header, as far as
        the config tells.
    """
    metainfo = dataset_metainfo(cfg) or {}
    found = {k: metainfo.get(k) for k in ('classes', 'palette')}
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    if pipeline := dataset.get('pipeline'):
        steps = [dict(step) for step in pipeline]
        found['test_pipeline'] = header_pipeline(steps, path)
    return found


def compressed_config(cfg: Config, file: str) -> Config:
    """Write a config that builds the compressed model.

    Args:
        cfg: Config of the original.
        file: The compressed weights.

    Returns:
        The same with a compressed backbone in it; training starts from the
        compressed weights.
    """
    cfg = copy.deepcopy(cfg)
    for key in ('prune', 'fips', 'work_dir'):
        cfg.pop(key, None)
    cfg.model.backbone = dict(
        type='halvit_mm.CompressedBackbone',
        backbone=dict(cfg.model.backbone, init_cfg=None),
        checkpoint=file,
    )
    cfg.load_from = file  # the head, too
    return cfg
