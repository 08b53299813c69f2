"""What a calibration trains in the units of one pass."""

from typing import Dict, List, Sequence

from torch import Tensor, nn

from .activations import ActivationStore
from .targets import Unit


class Trained:
    """All parameters of some units; subclasses make the units smaller first.

    Args:
        units: Units of the model that is compressed.
    """

    def __init__(self, units: Sequence[Unit]) -> None:
        self.units = units

    def parameters(self) -> List[nn.Parameter]:
        """What the optimiser moves."""
        return [p for unit in self.units for p in unit.module.parameters()]

    def tensors(self) -> List[Tensor]:
        """What a saved state holds of the units."""
        return [*self.parameters()]

    def reduce(
        self, originals: Dict[str, nn.Module], store: ActivationStore
    ) -> None:
        """Bring the units to their final size, before any step.

        Args:
            originals: The units as they were, by name.
            store: What these take and give.
        """

    def start(self, total: int) -> None:
        """Prepare for ``total`` steps, also where saved ones go on."""

    def begin(self) -> None:
        """Act before the first step, after :meth:`reduce`."""

    def before_step(self, step: int) -> None:
        """Prepare for the gradients of a step, counted from 1."""

    def after_step(self, step: int) -> None:
        """Act after a step of the optimiser, counted from 1."""

    def finish(self) -> None:
        """Act after the last step."""

    def suspects(self) -> List[str]:
        """Settings, beside the rate, from which a calibration may diverge."""
        return []
