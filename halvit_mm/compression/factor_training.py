"""Bases and factors in a calibration: FiPS."""

from typing import Dict, List, Sequence

from torch import Tensor, nn

from .activations import ActivationStore
from .config import FiPSConfig
from .factor_surgery import operate
from .masks import Scope, prune, scopes_of
from .parametrization import factors
from .sparsifiers import Sparsifier, build_sparsifier
from .targets import Unit
from .trained import Trained


class FactorTraining(Trained):
    """The bases, factors, scales and factorised layers' biases of units.

    Args:
        model: The model of the units.
        units: Units whose weights are factorised.
        config: Settings.
        sparsities: Share of the entries that is zero in the end, by the
            name of a factor.
    """

    def __init__(
        self,
        model: nn.Module,
        units: Sequence[Unit],
        config: FiPSConfig,
        sparsities: Dict[str, float],
    ) -> None:
        super().__init__(units)
        self.config = config
        self.sparsities = sparsities
        names = tuple(f'{unit.name}.' for unit in units)
        self.factors = [
            f for f in factors(model) if f'{f.name}.'.startswith(names)
        ]
        self.scopes = scopes_of(self.factors, config.prune_scope)
        bases = {id(f.weight.base): f.weight.base for f in self.factors}
        self.bases = list(bases.values())
        self.sparsifier: Sparsifier

    def parameters(self) -> List[nn.Parameter]:
        """Collect what the optimiser moves, without the layers' norms."""
        found = [base.weight for base in self.bases]
        for factor in self.factors:
            found += [factor.factor, factor.weight.scale]
            found += [
                parameter
                for name, parameter in factor.module.named_parameters()
                if name.rpartition('.')[2] == 'bias'
            ]
        return [parameter for parameter in found if parameter is not None]

    def tensors(self) -> List[Tensor]:
        """Collect parameters and masks."""
        masks = [factor.weight.mask for factor in self.factors]
        return [*self.parameters(), *masks]

    def reduce(
        self, originals: Dict[str, nn.Module], store: ActivationStore
    ) -> None:
        """Prune to the final sparsity."""
        if self.config.method == 'obs':
            operate(self.units, originals, store, self.scopes, self.kept)
            return
        for scope in self.scopes:
            prune(scope, self.config.sparsity)

    def kept(self, scope: Scope) -> int:
        """Count the entries of a scope that stay."""
        return round(
            sum(
                (1 - self.sparsities[f.name]) * f.factor.numel() for f in scope
            )
        )

    def start(self, total: int) -> None:
        """Make the sparsifier."""
        config = self.config
        self.sparsifier = build_sparsifier(
            config.method,
            self.scopes,
            config.sparsity,
            total,
            config.interval,
            config.end,
        )
        self.before_step = self.sparsifier.before_step
        self.after_step = self.sparsifier.after_step
        self.begin = self.sparsifier.start
        self.finish = self.sparsifier.finish

    def suspects(self) -> List[str]:
        """Name ``tau``, where factors have grown."""
        if any(b.weight.shape[1] > len(b.weight) for b in self.bases):
            return [f'fips.tau={self.config.tau} is too small']
        return []
