"""Local error minimisation: compressed units learn to do what they did.

FiPS, Sec. 3, Eq. 1: for each unit the squared distance between its output and
the original's, both fed what the original model feeds it. Units of a group
share a base and are optimised together: gradients are accumulated one unit at
a time, then one step of AdamW moves the base, all factors and the biases.
"""

from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

import torch
from torch import Tensor, nn

from ..checkpoint.files import atomic_write
from .activations import ActivationStore, capture
from .parametrization import NamedFactor, factors
from .schedulers import cosine
from .sparsifiers import Sparsifier, build_sparsifier, prune, scopes_of
from .states import digest_of
from .targets import Unit

__all__ = ['Calibration', 'Progress', 'UnitError', 'calibrate']


class Calibration(NamedTuple):
    """How to calibrate.

    Attributes:
        epochs: Passes over the batches (20 in the paper).
        lr: Of AdamW at the start, falling as a cosine. The paper's figures
            are lost in its text: our choice.
        method: One of :data:`.sparsifiers.METHODS`.
        sparsity: Of the factors, 0 to 1.
        prune_scope: One of :data:`.sparsifiers.SCOPES`; ``'model'`` (the
            paper's) optimises all groups in one pass, the others one group
            after another, which needs less memory.
        interval: Steps between changes of the masks.
        end: Share of the steps at which masks are final; None for the
            method's own.
        seed: Of the order of the batches.
        memory_limit: Bytes of activations in memory, the rest goes to files.
        save_interval: Steps between states from which a run that was killed
            goes on.
    """

    epochs: int = 20
    lr: float = 1e-3
    method: str = 'gmp'
    sparsity: float = 0.75
    prune_scope: str = 'group'
    interval: int = 50
    end: Optional[float] = None
    seed: int = 0
    memory_limit: int = 4 * 2**30
    save_interval: int = 50


class UnitError(NamedTuple):
    """Error of a unit over all batches, relative to its output's energy.

    Attributes:
        name: Of the unit.
        before: With factors that were pruned to the final sparsity, but not
            calibrated.
        after: After calibration.
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


class _Pair(NamedTuple):
    """A unit of the original and the compressed one."""

    original: Unit
    module: nn.Module


def calibrate(
    model: nn.Module,
    original: nn.Module,
    passes: Sequence[Sequence[Unit]],
    batches: Sequence[Tensor],
    settings: Calibration,
    folder: Path,
    report: Callable[[Progress], None] = lambda progress: None,
    key: str = '',
) -> List[UnitError]:
    """Calibrate a model that :func:`.fips.prepare` has factorised.

    Args:
        model: With factors; changed.
        original: The model as it was.
        passes: Units of ``original`` that are optimised together.
        batches: Images, (B, 3, H, W) each; the same ones in every call.
        settings: How.
        folder: For states and activations. A call that finds states of the
            same weights, settings and first batch there goes on from them,
            to the same result.
        report: Told after every step.
        key: What else settles the result, such as the options of
            :func:`.fips.prepare`: states of another key are refused.

    Returns:
        Errors of all units.

    Raises:
        ValueError: If activations are not finite, naming the layer, or if
            ``folder`` holds states of others.
        OSError: If the disk is full; the last state is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    original.eval()
    fixed = settings._replace(memory_limit=0, save_interval=0)
    errors = []
    for number, units in enumerate(passes):
        digest = digest_of(units, batches, fixed, key)
        run = _Pass(model, units, settings, folder, number, digest)
        state = run.load()
        if state is not None and 'errors' in state:
            errors += [UnitError(*error) for error in state['errors']]
            continue
        store = ActivationStore(
            folder / f'activations{number}', settings.memory_limit
        )
        try:
            capture(original, units, batches, store)
            errors += run.run(store, state, report)
        finally:
            store.clear()
    return errors


class _Pass:
    """Units that are optimised together."""

    def __init__(
        self,
        model: nn.Module,
        units: Sequence[Unit],
        settings: Calibration,
        folder: Path,
        number: int,
        digest: str,
    ) -> None:
        self.settings = settings
        self.digest = digest
        self.number = number
        self.path = folder / f'pass{number}.pt'
        modules = dict(model.named_modules())
        self.pairs = [_Pair(unit, modules[unit.name]) for unit in units]
        names = tuple(f'{pair.original.name}.' for pair in self.pairs)
        self.factors: List[NamedFactor] = [
            factor
            for factor in factors(model)
            if f'{factor.name}.'.startswith(names)
        ]
        self.scopes = scopes_of(self.factors, settings.prune_scope)
        bases = {id(f.weight.base): f.weight.base for f in self.factors}
        self.trained = nn.ModuleList([p.module for p in self.pairs])
        self.bases = nn.ModuleList(bases.values())
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

    def run(self, store, state, report) -> List[UnitError]:
        """Optimise, from a state if there is one."""
        num_batches = store.num_batches
        total = self.settings.epochs * num_batches
        kwargs = (
            {} if self.settings.end is None else {'end': self.settings.end}
        )
        sparsifier = build_sparsifier(
            self.settings.method,
            self.scopes,
            self.settings.sparsity,
            total,
            interval=self.settings.interval,
            **kwargs,
        )
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.settings.lr, weight_decay=0.0
        )
        self.trained.eval()  # dropout would be a target's noise
        if state is None:
            before, first = self._before(store), 1
            sparsifier.start()
        else:
            before, first = state['before'], state['step'] + 1
            self._restore(state, optimizer)
        with _all_trained(self.parameters()):
            for step in range(first, total + 1):
                losses = self._step(step, store, optimizer, sparsifier)
                report(Progress(step, total, self.number, losses))
                if step % self.settings.save_interval == 0 and step < total:
                    self._save(step, before, optimizer)
        sparsifier.finish()
        after = self._errors(store)
        names = [pair.original.name for pair in self.pairs]
        errors = [UnitError(*row) for row in zip(names, before, after)]
        self._save(total, before, None, [tuple(error) for error in errors])
        return errors

    def _step(self, step, store, optimizer, sparsifier: Sparsifier):
        num_batches = store.num_batches
        epoch, position = divmod(step - 1, num_batches)
        generator = torch.Generator().manual_seed(
            self.settings.seed * 100_003 + epoch
        )
        order = torch.randperm(num_batches, generator=generator)
        batch = int(order[position])
        total = self.settings.epochs * num_batches
        for group in optimizer.param_groups:
            group['lr'] = cosine(step - 1, total, self.settings.lr)
        sparsifier.before_step(step)
        optimizer.zero_grad()
        losses = {}
        for pair in self.pairs:
            call = store.get(pair.original.name, batch, self.device)
            loss = (pair.module(*call.args) - call.output).square().mean()
            loss.backward()
            energy = call.output.square().mean().clamp_min(1e-30)
            losses[pair.original.name] = (loss.detach() / energy).item()
        optimizer.step()
        sparsifier.after_step(step)
        return losses

    @torch.no_grad()
    def _errors(self, store) -> List[float]:
        found = []
        for pair in self.pairs:
            error = energy = 0.0
            for batch in range(store.num_batches):
                call = store.get(pair.original.name, batch, self.device)
                difference = pair.module(*call.args) - call.output
                error += difference.double().square().sum().item()
                energy += call.output.double().square().sum().item()
            found.append(error / max(energy, 1e-30))
        return found

    def _before(self, store) -> List[float]:
        """Errors of the truncated SVD, pruned but not calibrated."""
        if self.settings.method != 'dense':
            for scope in self.scopes:
                prune(scope, self.settings.sparsity)
        return self._errors(store)

    def _tensors(self) -> List[Tensor]:
        masks = [factor.weight.mask for factor in self.factors]
        return [*self.parameters(), *masks]

    def _save(self, step, before, optimizer, errors=None) -> None:
        state = dict(
            digest=self.digest,
            step=step,
            before=before,
            tensors=[tensor.detach().cpu() for tensor in self._tensors()],
        )
        if errors is None:
            state['optimizer'] = optimizer.state_dict()
        else:
            state['errors'] = errors
        with atomic_write(self.path) as part:
            torch.save(state, part)

    def load(self) -> Optional[dict]:
        """The last state; a finished one is put into the model."""
        if not self.path.is_file():
            return None
        state = torch.load(self.path, map_location='cpu', weights_only=True)
        if state['digest'] != self.digest:
            raise ValueError(
                f'{self.path} is a state of other settings, weights or '
                'images: name another folder, or remove it to start anew'
            )
        if 'errors' in state:
            self._restore(state, None)
        return state

    @torch.no_grad()
    def _restore(self, state, optimizer) -> None:
        pairs = zip(self._tensors(), state['tensors'], strict=True)
        for tensor, value in pairs:
            tensor.copy_(value)
        if optimizer is not None:
            optimizer.load_state_dict(state['optimizer'])


@contextmanager
def _all_trained(parameters: Sequence[nn.Parameter]):
    """What a backbone has frozen is calibrated as well, and frozen again."""
    frozen = [p for p in parameters if not p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
            parameter.grad = None
