"""FiPS: a shared dense base and sparse factors for groups of weights.

Learning Parameter Sharing with Tensor Decompositions and Sparsity (Uyuk et
al., 2024). ``prepare`` factorises, ``calibrate`` makes units do again what
they did, ``convert`` chooses how the result is computed.
"""

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import nn

from .decomposition import decompose, num_parameters, rank_for_budget
from .low_rank import to_low_rank
from .parametrization import attach, factors, materialize
from .targets import Group, find_groups

__all__ = [
    'Decomposition',
    'EXECUTIONS',
    'Structure',
    'TargetLayout',
    'attach_structure',
    'convert',
    'passes_of',
    'prepare',
    'structure_of',
]

#: ``materialize`` multiplies base and factor once: dense weights again, as
#: fast as the original. ``low_rank`` computes ``(x U) V`` at every call.
EXECUTIONS = ('materialize', 'low_rank')


class TargetLayout(NamedTuple):
    """Where a factor belongs.

    Attributes:
        name: Module whose weight it is of.
        transposed: As in :class:`.targets.Target`.
        width: p.
    """

    name: str
    transposed: bool
    width: int


class Structure(NamedTuple):
    """Everything that is needed to attach a group without its weights.

    Attributes:
        name: Of the group.
        dim: d.
        rank: r.
        scaled: Whether columns have learnt scales.
        targets: Its weights.
    """

    name: str
    dim: int
    rank: int
    scaled: bool
    targets: Tuple[TargetLayout, ...]

    def with_prefix(self, prefix: str) -> 'Structure':
        """Args: prefix: Of the names. Returns: For a module above it."""
        targets = (t._replace(name=prefix + t.name) for t in self.targets)
        return self._replace(targets=tuple(targets))

    def without_prefix(self, prefix: str) -> 'Structure':
        """Args: prefix: Of the names. Returns: For the module below it.

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
        """Args: values: What ``json`` made of a structure."""
        *head, targets = values
        return cls(*head, tuple(TargetLayout(*t) for t in targets))


class Decomposition(NamedTuple):
    """What :func:`prepare` did to a group.

    Attributes:
        structure: Of the group.
        svd_error: ``|M - U V| / |M|`` of the truncated SVD.
        dense_parameters: Of the weights as they were.
        parameters: Of the base and the factors' values that are not zero,
            by the budget's arithmetic.
    """

    structure: Structure
    svd_error: float
    dense_parameters: int
    parameters: float


def prepare(
    model: nn.Module,
    groups: Sequence[str],
    budget: float,
    sparsity: float = 0.75,
    square: Optional[Dict[str, str]] = None,
    rank: Optional[int] = None,
    svd: str = 'auto',
    growth: str = 'hybrid',
    tau: float = 32.0,
    scaled: bool = False,
    seed: int = 0,
) -> List[Decomposition]:
    """Factorise the weights of a model (FiPS, Sec. 3, Shared Initialization).

    Args:
        model: Changed: weights become products of a base, which the model
            registers once per group, and factors, which are not pruned yet.
        groups: Regular expressions over names of units, one per group.
        budget: Share of the weights' parameters that is kept, 0 to 1.
        sparsity: That the factors will have, 0 to 1.
        square: As for :func:`.targets.find_groups`.
        rank: Instead of the one that the budget gives.
        svd: ``'auto'``, ``'exact'`` or ``'randomized'``.
        growth: One of :data:`.decomposition.GROWTH`, beyond rank d.
        tau: Divisor of grown rows.
        scaled: Whether columns are normalised first and learn their scale
            (Sec. 5, Scaling Vectors).
        seed: Of what is random.

    Returns:
        One entry a group.

    Raises:
        ValueError: As :func:`.targets.find_groups` and
            :func:`.decomposition.rank_for_budget`.
    """
    found = find_groups(model, groups, square)
    structures = [
        structure_of(group, budget, sparsity, rank, scaled) for group in found
    ]
    results = []
    for number, (group, structure) in enumerate(zip(found, structures)):
        matrix = torch.cat([t.columns() for t in group.targets], dim=1)
        norms = matrix.norm(dim=0).clamp_min(1e-12) if scaled else None
        parts = decompose(
            matrix / norms if scaled else matrix,
            structure.rank,
            svd,
            growth,
            tau,
            seed + number,
        )
        attach_structure(model, [structure])
        _fill(model, group, structure, parts, norms)
        size = num_parameters(group.dim, group.width, structure.rank, sparsity)
        size += group.width if scaled else 0
        dense = group.dim * group.width
        results.append(Decomposition(structure, parts.error, dense, size))
    return results


def structure_of(
    group: Group,
    budget: float,
    sparsity: float,
    rank: Optional[int] = None,
    scaled: bool = False,
) -> Structure:
    """How a group is factorised.

    Args:
        group: Of :func:`.targets.find_groups`.
        budget, sparsity, rank, scaled: As for :func:`prepare`.

    Returns:
        Its structure.

    Raises:
        ValueError: As :func:`.decomposition.rank_for_budget`.
    """
    if rank is None:
        rank = rank_for_budget(
            group.dim, group.width, budget, sparsity, scaled
        )
    targets = (
        TargetLayout(t.name, t.transposed, t.width) for t in group.targets
    )
    return Structure(group.name, group.dim, rank, scaled, tuple(targets))


def attach_structure(
    model: nn.Module, structures: Sequence[Structure]
) -> None:
    """Give a model bases and factors of zeros, to load weights into.

    Args:
        model: Changed.
        structures: From :func:`prepare`, or from a compressed file.

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


@torch.no_grad()
def _fill(model, group: Group, structure: Structure, parts, norms) -> None:
    widths = [target.width for target in structure.targets]
    values = dict(
        zip(
            (target.name for target in group.targets),
            parts.factor.split(widths, dim=1),
        )
    )
    scales = norms.split(widths) if norms is not None else [None] * len(widths)
    scale_of = dict(zip(values, scales))
    for factor in factors(model):
        if factor.name in values:
            factor.factor.copy_(values[factor.name])
            factor.weight.base.weight.copy_(parts.base)
            if factor.weight.scale is not None:
                factor.weight.scale.copy_(scale_of[factor.name])


def passes_of(
    model: nn.Module,
    groups: Sequence[str],
    prune_scope: str,
    square: Optional[Dict[str, str]] = None,
) -> List[list]:
    """Units that a calibration optimises together.

    Args:
        model: The original.
        groups: As for :func:`prepare`.
        prune_scope: ``'model'`` makes one pass of all groups.
        square: As for :func:`prepare`.

    Returns:
        Units of each pass.
    """
    found = [group.units for group in find_groups(model, groups, square)]
    if prune_scope == 'model':
        return [[unit for units in found for unit in units]]
    return found


def convert(model: nn.Module, execution: str = 'materialize') -> int:
    """Choose how a compressed model computes, for inference.

    Args:
        model: Changed; it can be trained as a dense one afterwards, but is
            no longer compressed.
        execution: One of :data:`EXECUTIONS`.

    Returns:
        Number of weights.

    Raises:
        ValueError: For an unknown execution, or one that a layer does not
            know.
    """
    if execution not in EXECUTIONS:
        raise ValueError(
            f'execution={execution!r}: choose one of {list(EXECUTIONS)}'
        )
    if execution == 'low_rank':
        return to_low_rank(model)
    return materialize(model)
