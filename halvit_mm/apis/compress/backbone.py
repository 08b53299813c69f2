"""The compression of a model's backbone, from images to a file."""

import copy
from functools import partial
from pathlib import Path
from typing import (
    Any,
    Callable,
    Dict,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import torch
from torch import Tensor, nn

from ...checkpoint import save_weights
from ...compression import (
    EXECUTIONS,
    Compressing,
    Progress,
    Pruning,
    UnitError,
    calibrate,
    convert,
    save_compressed,
    tied_layers,
)
from ...models import CompressedBackbone
from ..timing import time_in_turns
from .estimate import UnitPlan, estimate

#: Name of the file in the folder.
FILE = 'compressed.safetensors'
_PREFIX = 'backbone.inner.'

#: Called with the compression, and the units of each pass, before a
#: calibration starts.
Plan = Callable[[Compressing, List[List[UnitPlan]]], None]


class CompressionResult(NamedTuple):
    """What a compression gave.

    Attributes:
        compression: The settings, groups, and ranks or widths.
        errors: Errors of every unit.
        file_bytes: Size of the file, of the whole model or its backbone.
        original_bytes: Size of the same tensors as they were.
        seconds: Time of a pass of one batch of images for ``'dense'`` and
            each execution that the layers support.
    """

    compression: Compressing
    errors: List[UnitError]
    file_bytes: int
    original_bytes: int
    seconds: Dict[str, float]

    @property
    def share(self) -> float:
        """Parameters that are kept, of those of the groups' weights."""
        compression = self.compression
        return compression.parameters / compression.dense_parameters

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
    compression: Compressing,
    batches: Sequence[Tensor],
    out: Path,
    plan: Plan = lambda compression, plans: None,
    report: Callable[[Progress], None] = lambda progress: None,
    held_out: Sequence[Tensor] = (),
    described: Optional[Dict[str, Any]] = None,
) -> CompressionResult:
    """Compress the backbone of a model and write the file.

    A call that was interrupted goes on where the last state was saved, to
    the same file.

    Args:
        model: A model with a ``backbone``, on the device to work on; it
            becomes a compressed one. A model with nothing else is saved as a
            backbone.
        compression: Plan for a copy of that backbone.
        batches: Images, (B, 3, H, W).
        out: Folder: ``compressed.safetensors`` and, while it works, states.
        plan: Called with the compression and what each pass will take.
        report: Called after every step.
        held_out: Images whose errors are measured at the end.
        described: What the file's header says, see
            :func:`halvit_mm.checkpoint.save_weights`.

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
    described = described or {}
    tensors = (*model.parameters(), *model.buffers())
    size = sum(t.numel() * t.element_size() for t in tensors)
    compression.prepare()
    plan(compression, estimate(original, compression, batches))
    errors = calibrate(
        original, compression, batches, out / 'states', report, held_out
    )
    if isinstance(compression, Pruning):
        model.backbone = inner
        save_weights(out / FILE, model.eval().state_dict(), **described)
    else:
        model.backbone = CompressedBackbone(inner)
        structures = [s.with_prefix(_PREFIX) for s in compression.structures]
        save_compressed(model.eval(), structures, out / FILE, **described)
    return CompressionResult(
        compression,
        errors,
        (out / FILE).stat().st_size,
        size,
        _time(original, compression, batches[0][:8]),
    )


@torch.no_grad()
def _time(
    original: nn.Module, compression: Compressing, images: Tensor
) -> Dict[str, float]:
    """Seconds of a pass of the original and of each execution."""
    inner = compression.model
    device = next(inner.parameters()).device
    models = {'dense': original}
    if isinstance(compression, Pruning):
        models['pruned'] = inner
    else:
        for execution in EXECUTIONS:
            if execution == 'low_rank' and tied_layers(inner):
                continue  # tied layers cannot compute through the rank
            models[execution] = copy.deepcopy(inner)
            convert(models[execution], execution)
    images = images.to(device)
    runs = {name: partial(model, images) for name, model in models.items()}
    return time_in_turns(runs, rounds=3, device=device)
