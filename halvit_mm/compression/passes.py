"""One pass of a calibration: units that are optimised together."""

import math
from typing import Callable, Dict, List, NamedTuple, Optional

import torch
from torch import nn

from .activations import ActivationStore
from .config import CalibrationConfig
from .parametrization import all_trained
from .schedulers import cosine
from .states import State
from .trained import Trained


class UnitError(NamedTuple):
    """Error of a unit over all batches, relative to its output's energy.

    Attributes:
        name: Full name of the unit.
        before: Error at the final size, but not calibrated.
        after: Error after calibration.
        held_out: Error on images that it is not calibrated on, if any are
            held out.
    """

    name: str
    before: float
    after: float
    held_out: Optional[float] = None


class Progress(NamedTuple):
    """Where a calibration is.

    Attributes:
        step: Steps done in this pass.
        total: Steps of this pass.
        passes_done: Passes before this one.
        passes: All passes.
        losses: Unit -> its last loss, relative to its output's energy.
    """

    step: int
    total: int
    passes_done: int
    passes: int
    losses: Dict[str, float]


class Pass:
    """Units that are optimised together.

    Args:
        config: Settings.
        trained: What of the units is trained.
        state: Where states are saved.
        number: Passes before this one.
        passes: All passes.
    """

    def __init__(
        self,
        config: CalibrationConfig,
        trained: Trained,
        state: State,
        number: int,
        passes: int,
    ) -> None:
        self.config = config
        self.trained = trained
        self.units = trained.units
        self.state = state
        self.number = number
        self.passes = passes
        self.device = next(self.units[0].module.parameters()).device

    def run(
        self,
        originals: Dict[str, nn.Module],
        store: ActivationStore,
        held_out: ActivationStore,
        saved: Optional[dict],
        report: Callable[[Progress], None],
    ) -> List[UnitError]:
        """Optimise.

        Args:
            originals: The units as they were, by name.
            store: What these take and give.
            held_out: The same of images that nothing is trained on.
            saved: A state to go on from, or None.
            report: Called after every step.

        Raises:
            ValueError: If a loss is not finite, naming the setting.
            OSError: If the disk is full.
        """
        config, trained = self.config, self.trained
        total = config.epochs * store.num_batches
        for unit in self.units:
            unit.module.eval()  # dropout would be noise in the target
        trained.start(total)
        if saved is None:
            trained.reduce(originals, store)
            first, before = 1, list(self._errors(store, 0).values())
            trained.begin()
        else:
            first, before = saved['step'] + 1, saved['before']
            self.restore(saved)
        optimizer = torch.optim.AdamW(
            trained.parameters(), lr=config.lr, weight_decay=0.0
        )
        if saved is not None:
            optimizer.load_state_dict(saved['optimizer'])
        with all_trained(trained.parameters()):
            for step in range(first, total + 1):
                losses = self._step(step, store, optimizer)
                report(Progress(step, total, self.number, self.passes, losses))
                if step % config.save_interval == 0 and step < total:
                    adam = optimizer.state_dict()
                    self._save(step=step, before=before, optimizer=adam)
        trained.finish()
        after = self._errors(store, total)
        unseen = self._errors(held_out, total) if held_out.num_batches else {}
        rows = [
            (name, error, after[name], unseen.get(name))
            for name, error in zip(after, before)
        ]
        self._save(errors=rows)
        return [UnitError(*row) for row in rows]

    def _step(
        self,
        step: int,
        store: ActivationStore,
        optimizer: torch.optim.Optimizer,
    ) -> Dict[str, float]:
        config, num_batches = self.config, store.num_batches
        epoch, position = divmod(step - 1, num_batches)
        generator = torch.Generator()
        generator.manual_seed(config.seed * 100_003 + epoch)
        order = torch.randperm(num_batches, generator=generator)
        batch = int(order[position])
        (group,) = optimizer.param_groups
        group['lr'] = cosine(step - 1, config.epochs * num_batches, config.lr)
        self.trained.before_step(step)
        optimizer.zero_grad()
        losses = {}
        for unit in self.units:
            call = store.get(unit.name, batch, self.device)
            loss = (unit.module(*call.args) - call.output).square().mean()
            loss.backward()
            energy = call.output.square().mean().clamp_min(1e-30)
            losses[unit.name] = (loss.detach() / energy).item()
        self._check_finite(losses, step)
        optimizer.step()
        self.trained.after_step(step)
        return losses

    @torch.no_grad()
    def _errors(self, store: ActivationStore, step: int) -> Dict[str, float]:
        found = {}
        for unit in self.units:
            error = energy = 0.0
            for batch in range(store.num_batches):
                call = store.get(unit.name, batch, self.device)
                difference = unit.module(*call.args) - call.output
                error += difference.double().square().sum().item()
                energy += call.output.double().square().sum().item()
            found[unit.name] = error / max(energy, 1e-30)
        self._check_finite(found, step)
        return found

    def _check_finite(self, errors: Dict[str, float], step: int) -> None:
        """Stop where the calibration diverges: no state is worth keeping."""
        broken = [k for k, v in errors.items() if not math.isfinite(v)]
        if not broken:
            return
        self.state.remove()
        key, causes = self.config.key, self.trained.suspects()
        if step:
            causes = [f'{key}.lr={self.config.lr} is too large', *causes]
        raise ValueError(
            f'pass {self.number + 1}, step {step}: the error of {broken[0]} '
            f'is {errors[broken[0]]}; {" or ".join(causes) or "it overflows"}'
        )

    def _save(self, **content) -> None:
        tensors = [tensor.detach().cpu() for tensor in self.trained.tensors()]
        self.state.save(tensors=tensors, **content)

    @torch.no_grad()
    def restore(self, saved: dict) -> None:
        """Put a state of :meth:`.states.State.load` into the model."""
        tensors = self.trained.tensors()
        for tensor, value in zip(tensors, saved['tensors'], strict=True):
            tensor.copy_(value)
