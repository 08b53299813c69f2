"""What a calibration will take, measured before it starts."""

from pathlib import Path
from typing import List, NamedTuple, Sequence

from torch import Tensor, nn

from ...compression import Compressing
from ...compression.activations import ActivationStore, capture
from ...compression.parametrization import all_trained
from ..timing import Clock

#: What the rest takes, in epochs of the steps: activations, the closed form,
#: errors. A ViT-S on a CPU: 3.5 beside 4.
_OTHER_EPOCHS = 3.5


class UnitPlan(NamedTuple):
    """What the calibration of a unit takes, from its first batch.

    Attributes:
        name: Full name of the unit.
        num_bytes: Bytes of its activations of all batches.
        seconds: Time of all its steps, and of what is done before and after.
    """

    name: str
    num_bytes: int
    seconds: float


def estimate(
    original: nn.Module, compression: Compressing, batches: Sequence[Tensor]
) -> List[List[UnitPlan]]:
    """Measure one step of every unit.

    Args:
        original: The backbone as it was.
        compression: Compression of a copy of it, which is prepared.
        batches: Images; the first batch is used.

    Returns:
        The units of each pass.
    """
    model = compression.model
    device = next(model.parameters()).device
    steps = (compression.config.epochs + _OTHER_EPOCHS) * len(batches)
    plans = []
    for units in compression.passes:
        names = [unit.name for unit in units]
        store = ActivationStore(Path(), limit=2**62)
        capture(original, names, [batches[0]], store)
        clock = Clock(device)
        calls = {name: store.get(name, 0, device) for name in names}
        with all_trained(list(model.parameters())):
            for unit in units:
                call = calls[unit.name]
                clock.mark(unit.name)
                output = unit.module(*call.args)
                (output - call.output).square().mean().backward()
            clock.mark(None)
        plans.append(
            [
                UnitPlan(
                    name,
                    calls[name].num_bytes * len(batches),
                    milliseconds / 1e3 * steps,
                )
                for name, milliseconds in clock.phases().items()
            ]
        )
    model.zero_grad()
    return plans
