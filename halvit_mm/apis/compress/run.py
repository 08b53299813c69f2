"""The compression itself."""

import copy
import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from mmengine.config import Config
from torch import Tensor, nn

from ...checkpoint import load_weights
from ...compression import (
    EXECUTIONS,
    ActivationStore,
    Decomposition,
    Progress,
    UnitError,
    calibrate,
    capture,
    convert,
    factors,
    passes_of,
    prepare,
    save_compressed,
    tied_layers,
)
from ...models import CompressedBackbone
from ..model_info import build_model
from .settings import FiPSSettings

__all__ = [
    'CompressionResult',
    'Plan',
    'UnitPlan',
    'compress',
    'compressed_config',
    'dataset_meta',
    'estimate',
    'load_original',
]

_PREFIX = 'backbone.inner.'


class UnitPlan(NamedTuple):
    """What the calibration of a unit takes, from its first batch.

    Attributes:
        name: Of the unit.
        num_bytes: Its activations of all batches.
        seconds: Of all its steps.
    """

    name: str
    num_bytes: int
    seconds: float


#: Told groups, and the units of each pass, before a calibration starts.
Plan = Callable[[List[Decomposition], List[List[UnitPlan]]], None]


class CompressionResult(NamedTuple):
    """What a compression gave.

    Attributes:
        settings: Of it.
        groups: Ranks and sizes.
        errors: Of every unit.
        kept: Weight -> entries of its factor that are not pruned.
        entries: Weight -> entries of its factor.
        file_bytes: Of the compressed file, whole model.
        original_bytes: Of the model's tensors as they were.
        seconds: Per pass of one image batch: ``'dense'``, ``'materialize'``
            and, where layers know it, ``'low_rank'``.
    """

    settings: FiPSSettings
    groups: List[Decomposition]
    errors: List[UnitError]
    kept: Dict[str, int]
    entries: Dict[str, int]
    file_bytes: int
    original_bytes: int
    seconds: Dict[str, float]

    @property
    def share(self) -> float:
        """Parameters that are kept, of those of the groups' weights."""
        return self.parameters / self.dense_parameters

    @property
    def parameters(self) -> int:
        """Of bases, factors without what is pruned, and scales, counted."""
        structures = [group.structure for group in self.groups]
        bases = sum(s.dim * s.rank for s in structures)
        scales = sum(
            t.width for s in structures if s.scaled for t in s.targets
        )
        return bases + scales + sum(self.kept.values())

    @property
    def dense_parameters(self) -> int:
        """Of the weights as they were."""
        return sum(group.dense_parameters for group in self.groups)

    def density(self, names: Sequence[str]) -> float:
        """Args: names: Weights. Returns: Share of entries that are kept."""
        kept = sum(self.kept[name] for name in names)
        return kept / sum(self.entries[name] for name in names)

    @property
    def summed_errors(self) -> Tuple[float, float]:
        """Of all units, before and after calibration."""
        before = sum(error.before for error in self.errors)
        return before, sum(error.after for error in self.errors)

    @property
    def recommended(self) -> str:
        """The faster execution."""
        choices = {k: v for k, v in self.seconds.items() if k != 'dense'}
        return min(choices, key=choices.get)


def load_original(cfg: Config, checkpoint: str) -> nn.Module:
    """The model of a config with the weights of a file.

    Args:
        cfg: Of a classifier or detector.
        checkpoint: Of the whole model.

    Returns:
        The model in eval mode.

    Raises:
        ValueError: If the checkpoint does not fit.
    """
    model = build_model(cfg)
    load_weights(model, checkpoint, min_coverage=1.0)
    return model.eval()


def compress(
    model: nn.Module,
    settings: FiPSSettings,
    batches: Sequence[Tensor],
    out: Path,
    plan: Plan = lambda groups, plans: None,
    report: Callable[[Progress], None] = lambda progress: None,
    meta: Optional[dict] = None,
) -> CompressionResult:
    """Compress the backbone of a model and write the file.

    A call that was interrupted goes on where the last state was saved, to
    the same file.

    Args:
        model: With a ``backbone``, on the device to work on; it becomes a
            compressed one.
        settings: How.
        batches: Images, (B, 3, H, W).
        out: Folder: ``compressed.safetensors`` and, while it works, states.
        plan: Told the groups and what each pass will take before it starts.
        report: Told after every step.
        meta: Kept in the file, from :func:`dataset_meta`.

    Returns:
        What it gave.

    Raises:
        ValueError: For targets or a budget that cannot be met, activations
            that are not finite, or states of other settings.
        OSError: If the disk is full; states are kept.
    """
    original = model.backbone
    original.eval()  # in a line of its own: the host's returns None
    tensors = (*model.parameters(), *model.buffers())
    size = sum(t.numel() * t.element_size() for t in tensors)
    images = batches[0]
    seconds = {'dense': _time(original, images)}
    passes = passes_of(
        original, settings.groups, settings.prune_scope, settings.square
    )
    inner = copy.deepcopy(original)
    groups = prepare(
        inner,
        settings.groups,
        settings.budget,
        settings.sparsity,
        settings.square,
        svd=settings.svd,
        growth=settings.growth,
        tau=settings.tau,
        scaled=settings.scaled,
        seed=settings.seed,
    )
    plan(groups, estimate(inner, original, passes, batches, settings))
    errors = calibrate(
        inner,
        original,
        passes,
        batches,
        settings.calibration(),
        out / 'states',
        report,
        settings.key,
    )
    model.backbone = CompressedBackbone(inner)
    structures = [g.structure.with_prefix(_PREFIX) for g in groups]
    file_bytes = save_compressed(
        model.eval(), structures, out / 'compressed.safetensors', meta
    )
    for execution in EXECUTIONS:
        if execution == 'low_rank' and tied_layers(inner):
            continue  # they have no way through the rank
        twin = copy.deepcopy(inner)
        twin.eval()
        convert(twin, execution)
        seconds[execution] = _time(twin, images)
    kept = {f.name: int(f.weight.mask.sum()) for f in factors(inner)}
    entries = {f.name: f.weight.mask.numel() for f in factors(inner)}
    return CompressionResult(
        settings, groups, errors, kept, entries, file_bytes, size, seconds
    )


def estimate(
    model: nn.Module,
    original: nn.Module,
    passes: Sequence[list],
    batches: Sequence[Tensor],
    settings: FiPSSettings,
) -> List[List[UnitPlan]]:
    """Measure a batch of every unit.

    Args:
        model: The backbone with factors.
        original: The backbone as it was.
        passes: From :func:`halvit_mm.compression.passes_of`.
        batches: Images; the first batch is used.
        settings: Of the compression.

    Returns:
        The units of each pass.
    """
    steps = settings.epochs * len(batches)
    modules = dict(model.named_modules())
    first = [batches[0]]
    plans = []
    for units in passes:
        store = ActivationStore(Path(), limit=2**62)
        capture(original, units, first, store)
        plans.append([])
        for unit in units:
            call = store.get(unit.name, 0, _device(model))
            start = _now(model)
            output = modules[unit.name](*call.args)
            (output - call.output).square().mean().backward()
            seconds = _now(model) - start
            plans[-1].append(
                UnitPlan(
                    unit.name, call.num_bytes * len(batches), seconds * steps
                )
            )
    model.zero_grad()
    return plans


@torch.no_grad()
def _time(backbone: nn.Module, images: Tensor, repeats: int = 3) -> float:
    """Returns: Seconds of the fastest of some passes."""
    images = images[:8].to(_device(backbone))
    backbone(images)
    found = []
    for _ in range(repeats):
        start = _now(backbone)
        backbone(images)
        found.append(_now(backbone) - start)
    return min(found)


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def _now(module: nn.Module) -> float:
    """Seconds, when all that a module has begun is done."""
    if _device(module).type == 'cuda':
        torch.cuda.synchronize(_device(module))
    return time.perf_counter()


def dataset_meta(cfg: Config) -> dict:
    """What a checkpoint says about its classes.

    Args:
        cfg: Of the model.

    Returns:
        As the ``meta`` of a checkpoint; empty where the config leaves it to
        the data set's class.
    """
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    metainfo = dataset.get('metainfo')
    return {} if metainfo is None else dict(dataset_meta=dict(metainfo))


def compressed_config(cfg: Config, out: Path) -> Config:
    """A config that builds the compressed model.

    Args:
        cfg: Of the original.
        out: Folder of :func:`compress`.

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
