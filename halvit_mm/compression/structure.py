"""How a group is factorised, without its weights: what a file describes."""

from typing import NamedTuple, Sequence, Tuple

from torch import nn
from torch.nn.utils import parametrize

from .config import FiPSConfig
from .decomposition import num_parameters, rank_for_budget
from .factorized_weight import FactorizedWeight, SharedBase
from .parametrization import BASES
from .targets import Group


class TargetLayout(NamedTuple):
    """Where a factor belongs; the entries are those of a ``Target``."""

    name: str
    transposed: bool
    width: int


class Structure(NamedTuple):
    """Everything that is needed to attach a group without its weights.

    Attributes:
        name: Name of the group.
        dim: Dimension d of the base.
        rank: Rank r.
        scaled: Whether the columns have learnt scales.
        targets: The group's weights.
    """

    name: str
    dim: int
    rank: int
    scaled: bool
    targets: Tuple[TargetLayout, ...]

    @property
    def width(self) -> int:
        """Sum of the long sides."""
        return sum(target.width for target in self.targets)

    @property
    def dense_parameters(self) -> int:
        """Number of parameters of the weights as they were."""
        return self.dim * self.width

    def parameters(self, sparsity: float) -> float:
        """Count what the budget counts: base, kept values and scales."""
        size = num_parameters(self.dim, self.width, self.rank, sparsity)
        return size + (self.width if self.scaled else 0)

    def relative_size(self, sparsity: float, itemsize: int) -> float:
        """Compare the bytes in a file with those of the dense weights.

        The mask takes one bit for each entry of the factors.

        Args:
            sparsity: Share of the factors' entries that is zero.
            itemsize: Bytes of a parameter.

        Returns:
            Bytes of the factorised group, as a share of the dense ones.
        """
        mask = self.rank * self.width / 8
        size = itemsize * self.parameters(sparsity) + mask
        return size / (itemsize * self.dense_parameters)

    def with_prefix(self, prefix: str) -> 'Structure':
        """Name the weights as a module above does."""
        targets = (t._replace(name=prefix + t.name) for t in self.targets)
        return self._replace(targets=tuple(targets))

    @classmethod
    def from_json(cls, values: Sequence) -> 'Structure':
        """Rebuild a structure from what ``json`` made of one."""
        *head, targets = values
        return cls(*head, tuple(TargetLayout(*t) for t in targets))


def structure_of(group: Group, config: FiPSConfig) -> Structure:
    """Decide how a group is factorised.

    The budget gives the rank, unless the settings state it; errors are those
    of :func:`.decomposition.rank_for_budget`. The brain surgeon's base does
    not grow beyond d.
    """
    rank = config.rank or rank_for_budget(
        group.dim, group.width, config.budget, config.sparsity, config.scaled
    )
    if config.method == 'obs':
        rank = min(rank, group.dim)
    layouts = (
        TargetLayout(t.name, t.transposed, t.width) for t in group.targets
    )
    return Structure(
        group.name, group.dim, rank, config.scaled, tuple(layouts)
    )


def sparsity_of(structure: Structure, config: FiPSConfig) -> float:
    """Share of the entries of a group's factors that are zero in the end.

    It is that of the settings, but for the brain surgeon what the budget
    leaves beside the base.
    """
    if config.method != 'obs' or config.rank is not None:
        return config.sparsity
    entries = structure.rank * structure.width
    base = structure.dim * structure.rank
    return 1 - (config.budget * structure.dense_parameters - base) / entries


def attach_structure(
    model: nn.Module, structures: Sequence[Structure], prefix: str = ''
) -> None:
    """Give a model bases and factors of zeros, to load weights into.

    A base requires gradients if one of its factors does: where a backbone
    freezes all layers of a group, its base is frozen as well.

    Args:
        model: The model, which gets the bases registered.
        structures: One per group, from :func:`.fips.prepare` or from a file.
        prefix: What the structures' names begin with, in front of the names
            in the model.

    Raises:
        ValueError: If a name lacks the prefix, if a weight is missing or has
            another shape, or if the model has such a base already.
    """
    names = [target.name for s in structures for target in s.targets]
    others = [name for name in names if not name.startswith(prefix)]
    if others:
        raise ValueError(f'{others[:3]} do not start with {prefix!r}')
    modules = {f'{prefix}{n}': m for n, m in model.named_modules()}
    for structure in structures:
        for target in structure.targets:
            shape = (structure.dim, target.width)
            shape = shape[::-1] if target.transposed else shape
            weight = getattr(modules.get(target.name), 'weight', None)
            here = 'missing' if weight is None else tuple(weight.shape)
            if here != shape:
                raise ValueError(
                    f'{target.name}.weight is to be {shape}, here it is '
                    f'{here}: the compression is of another architecture'
                )
        bases = getattr(model, BASES, nn.ModuleDict())
        if structure.name in bases:
            raise ValueError(
                f'the model has a base {structure.name} already: all groups '
                'are factorised at once'
            )
        base = SharedBase(structure.dim, structure.rank)
        is_trained = False
        for target in structure.targets:
            module = modules[target.name]
            is_trained |= module.weight.requires_grad
            base.to(module.weight)
            weight = FactorizedWeight(
                base, target.width, target.transposed, structure.scaled
            ).to(module.weight)
            parametrize.register_parametrization(
                module, 'weight', weight, unsafe=True
            )
        base.weight.requires_grad_(is_trained)
        bases[structure.name] = base
        setattr(model, BASES, bases)
