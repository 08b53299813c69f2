"""One pass of a calibration: units that are optimised together."""

import math
from typing import (
    Callable,
    Dict,
    List,
    NamedTuple,
    Optional,
    Sequence,
)

import torch
from torch import Tensor, nn

from .activations import ActivationStore
from .fips import Compression
from .masks import prune, scopes_of
from .parametrization import NamedFactor, all_trained, factors
from .schedulers import cosine
from .sparsifiers import Sparsifier, build_sparsifier
from .states import State
from .targets import Unit

__all__ = ['Pass', 'Progress', 'UnitError']


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
        self.factors: List[NamedFactor] = [
            factor
            for factor in factors(model)
            if f'{factor.name}.'.startswith(names)
        ]
        self.scopes = scopes_of(self.factors, self.config.prune_scope)
        bases = {id(f.weight.base): f.weight.base for f in self.factors}
        self.bases = list(bases.values())
        self.device = next(model.parameters()).device

    def parameters(self) -> List[nn.Parameter]:
        """The bases, factors, scales and the factorised layers' biases."""
        found = [base.weight for base in self.bases]
        for factor in self.factors:
            found.append(factor.factor)
            if factor.weight.scale is not None:
                found.append(factor.weight.scale)
            found += [
                parameter
                for name, parameter in factor.module.named_parameters()
                if name.rpartition('.')[2] == 'bias'
            ]
        return found

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

        Returns:
            Errors of the units.

        Raises:
            ValueError: If a loss is not finite, naming the setting.
            OSError: If the disk is full.
        """
        config = self.config
        total = config.epochs * store.num_batches
        options = {} if config.end is None else {'end': config.end}
        options.update(total_steps=total, interval=config.interval)
        sparsifier = build_sparsifier(
            config.method, self.scopes, config.sparsity, **options
        )
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=config.lr, weight_decay=0.0
        )
        for unit in self.units:
            unit.module.eval()  # dropout would be noise in the target
        if saved is None:
            first, before = 1, self._before(store)
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
                    self._save(
                        step=step,
                        before=before,
                        optimizer=optimizer.state_dict(),
                    )
        sparsifier.finish()
        after = self._errors(store)
        self._check_finite(after, f'step {total}')
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
        num_batches = store.num_batches
        epoch, position = divmod(step - 1, num_batches)
        generator = torch.Generator().manual_seed(
            self.config.seed * 100_003 + epoch
        )
        order = torch.randperm(num_batches, generator=generator)
        batch = int(order[position])
        total = self.config.epochs * num_batches
        for group in optimizer.param_groups:
            group['lr'] = cosine(step - 1, total, self.config.lr)
        sparsifier.before_step(step)
        optimizer.zero_grad()
        losses = {}
        for unit in self.units:
            call = store.get(unit.name, batch, self.device)
            loss = (unit.module(*call.args) - call.output).square().mean()
            loss.backward()
            energy = call.output.square().mean().clamp_min(1e-30)
            losses[unit.name] = (loss.detach() / energy).item()
        self._check_finite(losses, f'step {step}')
        optimizer.step()
        sparsifier.after_step(step)
        return losses

    @torch.no_grad()
    def _errors(self, store: ActivationStore) -> Dict[str, float]:
        found = {}
        for unit in self.units:
            error = energy = 0.0
            for batch in range(store.num_batches):
                call = store.get(unit.name, batch, self.device)
                difference = unit.module(*call.args) - call.output
                error += difference.double().square().sum().item()
                energy += call.output.double().square().sum().item()
            found[unit.name] = error / max(energy, 1e-30)
        return found

    def _before(self, store: ActivationStore) -> List[float]:
        """Errors of the truncated SVD, pruned but not calibrated."""
        if self.config.method != 'dense':
            for scope in self.scopes:
                prune(scope, self.config.sparsity)
        errors = self._errors(store)
        self._check_finite(errors, 'step 0')
        return list(errors.values())

    def _check_finite(self, errors: Dict[str, float], when: str) -> None:
        """Stop where the calibration diverges: no state is worth keeping."""
        broken = [k for k, v in errors.items() if not math.isfinite(v)]
        if not broken:
            return
        self.state.remove()
        causes = []
        if when != 'step 0':
            causes.append(f'fips.lr={self.config.lr} is too large')
        if any(b.weight.shape[1] > len(b.weight) for b in self.bases):
            causes.append(f'fips.tau={self.config.tau} is too small')
        raise ValueError(
            f'pass {self.number + 1}, {when}: the error of {broken[0]} is '
            f'{errors[broken[0]]}; {" or ".join(causes) or "it overflows"}'
        )

    def _tensors(self) -> List[Tensor]:
        masks = [factor.weight.mask for factor in self.factors]
        return [*self.parameters(), *masks]

    def _save(self, **content) -> None:
        tensors = [tensor.detach().cpu() for tensor in self._tensors()]
        self.state.save(tensors=tensors, **content)

    @torch.no_grad()
    def restore(self, saved: dict) -> None:
        """Put a state into the model.

        Args:
            saved: Of :meth:`.states.State.load`.
        """
        pairs = zip(self._tensors(), saved['tensors'], strict=True)
        for tensor, value in pairs:
            tensor.copy_(value)
