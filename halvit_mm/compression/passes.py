"""One pass of a calibration: units that are optimised together."""

import math
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

import torch
from torch import Tensor, nn

from .activations import ActivationStore
from .fips import Compression
from .masks import prune, scopes_of
from .parametrization import all_trained, factors
from .schedulers import cosine
from .sparsifiers import Sparsifier, build_sparsifier
from .states import State
from .targets import Unit


class UnitError(NamedTuple):
    """Error of a unit over all batches, relative to its output's energy.

    Attributes:
        name: Full name of the unit.
        before: Error with factors that were pruned to the final sparsity, but
            not calibrated.
        after: Error after calibration.
    """

    name: str
    before: float
    after: float


class Progress(NamedTuple):
    """Where a calibration is.

    Attributes:
        step: Steps done in this pass.
        total: Steps of this pass.
        passes_done: Passes before this one.
        losses: Unit -> its last loss, relative to its output's energy.
    """

    step: int
    total: int
    passes_done: int
    losses: Dict[str, float]


class Pass:
    """Units that are optimised together.

    Args:
        compression: The compression.
        units: Units of its model.
        state: Where states are saved.
        number: Passes before this one.
    """

    def __init__(
        self,
        compression: Compression,
        units: Sequence[Unit],
        state: State,
        number: int,
    ) -> None:
        model = compression.model
        self.config = compression.config
        self.units = units
        self.state = state
        self.number = number
        names = tuple(f'{unit.name}.' for unit in units)
        self.factors = [
            f for f in factors(model) if f'{f.name}.'.startswith(names)
        ]
        self.scopes = scopes_of(self.factors, self.config.prune_scope)
        bases = {id(f.weight.base): f.weight.base for f in self.factors}
        self.bases = list(bases.values())
        self.device = next(model.parameters()).device

    def parameters(self) -> List[nn.Parameter]:
        """The bases, factors, scales and the factorised layers' biases."""
        found = [base.weight for base in self.bases]
        for factor in self.factors:
            found += [factor.factor, factor.weight.scale]
            found += [
                parameter
                for name, parameter in factor.module.named_parameters()
                if name.rpartition('.')[2] == 'bias'
            ]
        return [parameter for parameter in found if parameter is not None]

    def run(
        self,
        store: ActivationStore,
        saved: Optional[dict],
        report: Callable[[Progress], None],
    ) -> List[UnitError]:
        """Optimise.

        Args:
            store: What the original's units take and give.
            saved: A state to go on from, or None.
            report: Called after every step.

        Raises:
            ValueError: If a loss is not finite, naming the setting.
            OSError: If the disk is full.
        """
        config = self.config
        total = config.epochs * store.num_batches
        sparsifier = build_sparsifier(
            config.method,
            self.scopes,
            config.sparsity,
            total,
            config.interval,
            config.end,
        )
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=config.lr, weight_decay=0.0
        )
        for unit in self.units:
            unit.module.eval()  # dropout would be noise in the target
        if saved is None:
            for scope in self.scopes:
                prune(scope, config.sparsity)
            first, before = 1, list(self._errors(store, 0).values())
            sparsifier.start()
        else:
            first, before = saved['step'] + 1, saved['before']
            self.restore(saved)
            optimizer.load_state_dict(saved['optimizer'])
        with all_trained(self.parameters()):
            for step in range(first, total + 1):
                losses = self._step(step, store, optimizer, sparsifier)
                report(Progress(step, total, self.number, losses))
                if step % config.save_interval == 0 and step < total:
                    adam = optimizer.state_dict()
                    self._save(step=step, before=before, optimizer=adam)
        sparsifier.finish()
        after = self._errors(store, total)
        rows = list(zip(after, before, after.values()))
        self._save(errors=rows)
        return [UnitError(*row) for row in rows]

    def _step(
        self,
        step: int,
        store: ActivationStore,
        optimizer: torch.optim.Optimizer,
        sparsifier: Sparsifier,
    ) -> Dict[str, float]:
        config, num_batches = self.config, store.num_batches
        epoch, position = divmod(step - 1, num_batches)
        generator = torch.Generator()
        generator.manual_seed(config.seed * 100_003 + epoch)
        order = torch.randperm(num_batches, generator=generator)
        batch = int(order[position])
        (group,) = optimizer.param_groups
        group['lr'] = cosine(step - 1, config.epochs * num_batches, config.lr)
        sparsifier.before_step(step)
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
        sparsifier.after_step(step)
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
        causes = []
        if step:
            causes.append(f'fips.lr={self.config.lr} is too large')
        if any(b.weight.shape[1] > len(b.weight) for b in self.bases):
            causes.append(f'fips.tau={self.config.tau} is too small')
        raise ValueError(
            f'pass {self.number + 1}, step {step}: the error of {broken[0]} '
            f'is {errors[broken[0]]}; {" or ".join(causes) or "it overflows"}'
        )

    def _tensors(self) -> List[Tensor]:
        masks = [factor.weight.mask for factor in self.factors]
        return [*self.parameters(), *masks]

    def _save(self, **content) -> None:
        tensors = [tensor.detach().cpu() for tensor in self._tensors()]
        self.state.save(tensors=tensors, **content)

    @torch.no_grad()
    def restore(self, saved: dict) -> None:
        """Put a state of :meth:`.states.State.load` into the model."""
        tensors = self._tensors()
        for tensor, value in zip(tensors, saved['tensors'], strict=True):
            tensor.copy_(value)
