"""The compression of a model's backbone, from images to a file."""

import copy
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ...compression import (
    EXECUTIONS,
    Compression,
    Progress,
    UnitError,
    calibrate,
    convert,
    factors,
    save_compressed,
    tied_layers,
)
from ...compression.fips import factorize
from ...models import CompressedBackbone
from ..timing import time_in_turns
from .estimate import UnitPlan, estimate

_PREFIX = 'backbone.inner.'

#: Called with the compression, and the units of each pass, before a
#: calibration starts.
Plan = Callable[[Compression, List[List[UnitPlan]]], None]


class CompressionResult(NamedTuple):
    """What a compression gave.

    Attributes:
        compression: The settings, groups and ranks.
        errors: Errors of every unit.
        kept: For each weight the entries of its factor that are not pruned.
        entries: For each weight all entries of its factor.
        file_bytes: Size of the compressed file, with the whole model.
        original_bytes: Size of the model's tensors as they were.
        seconds: Time of a pass of one batch of images for ``'dense'`` and
            each execution that the layers support.
    """

    compression: Compression
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
        """Number of parameters of the groups, without what is pruned.

        Bases, factors and scales, and the weights of groups that stay dense.
        """
        structures = self.compression.structures
        bases = sum(s.dim * s.rank for s in structures)
        scales = sum(s.width for s in structures if s.scaled)
        dense = sum(s.dense_parameters for s in self.compression.kept_dense)
        return bases + scales + dense + sum(self.kept.values())

    @property
    def dense_parameters(self) -> int:
        """Number of parameters of the groups' weights as they were."""
        found = [*self.compression.structures, *self.compression.kept_dense]
        return sum(structure.dense_parameters for structure in found)

    def density(self, names: Sequence[str]) -> float:
        """Compute the share of factors' entries that are kept.

        Args:
            names: Full names of weights.

        Returns:
            The share, 0 to 1.
        """
        kept = sum(self.kept[name] for name in names)
        return kept / sum(self.entries[name] for name in names)

    @property
    def summed_errors(self) -> Tuple[float, float]:
        """Errors of all units, summed, before and after calibration."""
        before = sum(error.before for error in self.errors)
        return before, sum(error.after for error in self.errors)

    @property
    def recommended(self) -> str:
        """The faster execution."""
        choices = {k: v for k, v in self.seconds.items() if k != 'dense'}
        return min(choices, key=choices.get)


def compress(
    model: nn.Module,
    compression: Compression,
    batches: Sequence[Tensor],
    out: Path,
    plan: Plan = lambda compression, plans: None,
    report: Callable[[Progress], None] = lambda progress: None,
    meta: Optional[dict] = None,
    model_cfg: Optional[dict] = None,
) -> CompressionResult:
    """Compress the backbone of a model and write the file.

    A call that was interrupted goes on where the last state was saved, to
    the same file.

    Args:
        model: A model with a ``backbone``, on the device to work on; it
            becomes a compressed one.
        compression: From :func:`halvit_mm.compression.plan_compression`, of a
            copy of that backbone.
        batches: Images, (B, 3, H, W).
        out: Folder: ``compressed.safetensors`` and, while it works, states.
        plan: Called with the compression and what each pass will take.
        report: Called after every step.
        meta: The ``meta`` of a checkpoint, which is kept in the file.
        model_cfg: The config of the compressed model, which is kept as well.

    Returns:
        The errors, sizes and times of the compressed model.

    Raises:
        ValueError: For activations that are not finite, a calibration that
            diverges, or states of other settings.
        OSError: If the disk is full; states are kept.
    """
    original, inner = model.backbone, compression.model
    for backbone in (original, inner):
        backbone.eval()  # the host's returns None
    tensors = (*model.parameters(), *model.buffers())
    size = sum(t.numel() * t.element_size() for t in tensors)
    factorize(compression)
    plan(compression, estimate(original, compression, batches))
    errors = calibrate(original, compression, batches, out / 'states', report)
    model.backbone = CompressedBackbone(inner)
    file_bytes = save_compressed(
        model.eval(),
        [s.with_prefix(_PREFIX) for s in compression.structures],
        out / 'compressed.safetensors',
        meta,
        model_cfg,
    )
    return CompressionResult(
        compression,
        errors,
        {f.name: int(f.weight.mask.sum()) for f in factors(inner)},
        {f.name: f.weight.mask.numel() for f in factors(inner)},
        file_bytes,
        size,
        _time(original, inner, batches[0][:8]),
    )


@torch.no_grad()
def _time(
    original: nn.Module, inner: nn.Module, images: Tensor
) -> Dict[str, float]:
    """Seconds of a pass of the original and of each execution."""
    device = next(inner.parameters()).device
    models = {'dense': original}
    for execution in EXECUTIONS:
        if execution == 'low_rank' and tied_layers(inner):
            continue  # tied layers cannot compute through the rank
        models[execution] = copy.deepcopy(inner)
        convert(models[execution], execution)
    images = images.to(device)
    runs = {name: partial(model, images) for name, model in models.items()}
    return time_in_turns(runs, rounds=3, device=device)
