"""How a group is factorised, without its weights: what a file describes."""

from typing import NamedTuple, Sequence, Tuple

from torch import nn

from .config import FiPSConfig
from .decomposition import num_parameters, rank_for_budget
from .parametrization import attach
from .targets import Group

__all__ = ['Structure', 'TargetLayout', 'attach_structure', 'structure_of']


class TargetLayout(NamedTuple):
    """Where a factor belongs.

    Attributes:
        name: Full name of the module whose weight it is.
        transposed: As in :class:`.targets.Target`.
        width: Long side p of the weight.
    """

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
        """Count what the budget counts: base, kept values and scales.

        Args:
            sparsity: Share of the factors' entries that is zero.

        Returns:
            The number of parameters.
        """
        size = num_parameters(self.dim, self.width, self.rank, sparsity)
        return size + (self.width if self.scaled else 0)

    def relative_size(self, sparsity: float, itemsize: int) -> float:
        """Compare the sizes in a file, with one bit per entry as the mask.

        Args:
            sparsity: Share of the factors' entries that is zero.
            itemsize: Bytes of a parameter.

        Returns:
            Bytes of the factorised weights relative to the dense ones.
        """
        mask = self.rank * self.width / 8
        size = itemsize * self.parameters(sparsity) + mask
        return size / (itemsize * self.dense_parameters)

    def with_prefix(self, prefix: str) -> 'Structure':
        """Name the weights as a module above does.

        Args:
            prefix: What the names get in front.

        Returns:
            The structure with other names.
        """
        targets = (t._replace(name=prefix + t.name) for t in self.targets)
        return self._replace(targets=tuple(targets))

    def without_prefix(self, prefix: str) -> 'Structure':
        """Name the weights as a module below does.

        Args:
            prefix: What the names lose in front.

        Returns:
            The structure with other names.

        Raises:
            ValueError: If a name does not start with it.
        """
        others = [
            t.name for t in self.targets if not t.name.startswith(prefix)
        ]
        if others:
            raise ValueError(f'{others[:3]} do not start with {prefix!r}')
        targets = tuple(
            t._replace(name=t.name.removeprefix(prefix)) for t in self.targets
        )
        return self._replace(targets=targets)

    @classmethod
    def from_json(cls, values: Sequence) -> 'Structure':
        """Rebuild a structure.

        Args:
            values: What ``json`` made of a structure.

        Returns:
            The structure.
        """
        *head, targets = values
        return cls(*head, tuple(TargetLayout(*t) for t in targets))


def structure_of(group: Group, config: FiPSConfig) -> Structure:
    """Decide how a group is factorised.

    Args:
        group: A group of :func:`.targets.find_groups`.
        config: Settings; the budget gives the rank, unless they state it.

    Returns:
        The structure.

    Raises:
        ValueError: As :func:`.decomposition.rank_for_budget`.
    """
    rank = config.rank or rank_for_budget(
        group.dim, group.width, config.budget, config.sparsity, config.scaled
    )
    targets = (
        TargetLayout(t.name, t.transposed, t.width) for t in group.targets
    )
    return Structure(
        group.name, group.dim, rank, config.scaled, tuple(targets)
    )


def attach_structure(
    model: nn.Module, structures: Sequence[Structure]
) -> None:
    """Give a model bases and factors of zeros, to load weights into.

    Args:
        model: The model; it is changed.
        structures: One per group, of :func:`.fips.prepare` or of a file.

    Raises:
        ValueError: If a weight is missing or has another shape.
    """
    modules = dict(model.named_modules())
    for structure in structures:
        targets = []
        for target in structure.targets:
            module = modules.get(target.name)
            shape = (structure.dim, target.width)
            shape = shape[::-1] if target.transposed else shape
            weight = getattr(module, 'weight', None)
            if weight is None or tuple(weight.shape) != shape:
                here = 'missing' if weight is None else tuple(weight.shape)
                raise ValueError(
                    f'{target.name}.weight is to be {shape}, here it is '
                    f'{here}: the compression is of another architecture'
                )
            targets.append((module, target.transposed))
        attach(
            model,
            structure.name,
            structure.dim,
            structure.rank,
            targets,
            structure.scaled,
        )
