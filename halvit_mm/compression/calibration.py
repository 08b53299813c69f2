"""Local error minimisation: compressed units learn to do what they did.

FiPS, Sec. 3, Eq. 1: for each unit the squared distance between its output and
the original's, both fed what the original model feeds it. Units of a group
share a base and are optimised together: gradients are accumulated one unit at
a time, then one step of AdamW moves the base, all factors and the biases.
"""

from pathlib import Path
from typing import Callable, List, Protocol, Sequence

from torch import Tensor, nn

from .activations import ActivationStore, capture
from .config import CalibrationConfig
from .passes import Pass, Progress, UnitError
from .states import State, digest_of
from .targets import Unit
from .trained import Trained


class Compressing(Protocol):
    """A way to make a model smaller, applied to one model.

    Attributes:
        model: The model, which becomes smaller.
        config: Settings.
    """

    model: nn.Module
    config: CalibrationConfig

    @property
    def passes(self) -> List[List[Unit]]:
        """Units that are calibrated together, for each pass."""

    def training_of(self, units: List[Unit]) -> Trained:
        """Say what is trained of the units of a pass."""


def calibrate(
    original: nn.Module,
    compression: Compressing,
    batches: Sequence[Tensor],
    folder: Path,
    report: Callable[[Progress], None] = lambda progress: None,
    held_out: Sequence[Tensor] = (),
) -> List[UnitError]:
    """Calibrate a model that is to be, or has been, made smaller.

    Args:
        original: The model as it was.
        compression: What is done to a copy of it; the copy is changed.
        batches: Images, (B, 3, H, W) each; the same ones in every call.
        folder: For states and activations. A call that finds states of the
            same weights, settings and first batch there goes on from them,
            to the same result.
        report: Called after every step.
        held_out: Batches whose errors are measured at the end.

    Returns:
        The errors of every unit.

    Raises:
        ValueError: If activations are not finite, naming the layer; if the
            calibration diverges, naming the pass and the setting; or if
            ``folder`` holds states of other settings, weights or images.
        OSError: If the disk is full; the last state is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    original.eval()
    config = compression.config
    errors, passes = [], compression.passes
    for number, units in enumerate(passes):
        originals = {u.name: original.get_submodule(u.name) for u in units}
        digest = digest_of(originals, batches, config)
        state = State(folder / f'pass{number}.pt', digest)
        trained = compression.training_of(units)
        run = Pass(config, trained, state, number, len(passes))
        saved = state.load()
        if saved is not None and 'errors' in saved:
            run.restore(saved)
            errors += [UnitError(*error) for error in saved['errors']]
            continue
        spilled = folder / f'activations{number}'
        store = ActivationStore(spilled, config.memory_limit)
        unseen = ActivationStore(spilled / 'held_out', config.memory_limit)
        try:
            capture(original, list(originals), batches, store)
            capture(original, list(originals), held_out, unseen)
            errors += run.run(originals, store, unseen, saved, report)
        finally:
            store.clear()
            unseen.clear()
    return errors
