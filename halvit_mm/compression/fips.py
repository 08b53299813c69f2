"""FiPS: a shared dense base and sparse factors for groups of weights.

Learning Parameter Sharing with Tensor Decompositions and Sparsity (Uyuk et
al., 2024). ``prepare`` factorises, ``calibrate`` makes units do again what
they did, ``convert`` chooses how the result is computed.
"""

from dataclasses import dataclass, field
from logging import WARNING
from typing import List

import torch
from torch import nn

from ..checkpoint.log import say
from .config import FiPSConfig
from .decomposition import decompose
from .low_rank import to_low_rank
from .parametrization import materialize
from .structure import Structure, attach_structure, structure_of
from .targets import Group, Unit, find_groups

#: ``materialize`` multiplies base and factor once: dense weights again, as
#: fast as the original. ``low_rank`` computes ``(x U) V`` at every call.
EXECUTIONS = dict(materialize=materialize, low_rank=to_low_rank)


@dataclass
class Compression:
    """A compression of one model: what all its steps work with.

    Attributes:
        model: The model that is compressed.
        config: Settings.
        groups: The groups that are factorised.
        structures: How each of these groups is factorised.
        kept_dense: Structures of the groups that are not factorised, because
            they would not become smaller.
        svd_errors: ``|M - U V| / |M|`` of the truncated SVD of each group,
            after :func:`factorize`.
    """

    model: nn.Module
    config: FiPSConfig
    groups: List[Group] = field(default_factory=list)
    structures: List[Structure] = field(default_factory=list)
    kept_dense: List[Structure] = field(default_factory=list)
    svd_errors: List[float] = field(default_factory=list)

    @property
    def passes(self) -> List[List[Unit]]:
        """Units that are calibrated together, for each pass."""
        units = [group.units for group in self.groups]
        if self.config.prune_scope == 'model' and units:
            return [sum(units, [])]
        return units


def plan_compression(model: nn.Module, config: FiPSConfig) -> Compression:
    """Find the groups of a model and their ranks, before anything takes time.

    A group that would not be smaller in a file than its dense weights stays
    dense, which a warning says; a rank that the settings state is used all
    the same.

    Args:
        model: The model; it is not changed.
        config: Settings.

    Returns:
        The compression, for :func:`factorize`.

    Raises:
        ValueError: As :func:`.targets.find_groups` and
            :func:`.decomposition.rank_for_budget`.
    """
    compression = Compression(model, config)
    for group in find_groups(model, config.groups, config.square):
        structure = structure_of(group, config)
        itemsize = group.targets[0].module.weight.element_size()
        size = structure.relative_size(config.sparsity, itemsize)
        is_kept = size >= 1 and config.rank is None
        if size >= 1:
            how = f'rank {structure.rank}, sparsity {config.sparsity}'
            end = 'it stays dense' if is_kept else 'the file becomes larger'
            say(
                f'{group.name}: factorised ({how}) it would take '
                f'{size:.1%} of the bytes of its dense weights: {end}',
                WARNING,
            )
        if is_kept:
            compression.kept_dense.append(structure)
        else:
            compression.groups.append(group)
            compression.structures.append(structure)
    return compression


def factorize(compression: Compression) -> None:
    """Factorise the weights (FiPS, Sec. 3, Shared Initialization).

    The model's weights become products of a base, which it registers once per
    group, and factors, which are not pruned yet. ``svd_errors`` is filled.

    Raises:
        ValueError: If factors are not finite.
    """
    config = compression.config
    pairs = zip(compression.groups, compression.structures)
    for number, (group, structure) in enumerate(pairs):
        matrix = torch.cat([t.columns() for t in group.targets], dim=1)
        norms = matrix.norm(dim=0).clamp_min(1e-12)
        parts = decompose(
            matrix / norms if config.scaled else matrix,
            structure.rank,
            config.svd,
            config.growth,
            config.tau,
            config.seed + number,
        )
        if not all(torch.isfinite(part).all() for part in parts[:2]):
            raise ValueError(
                f'{group.name}: the factors hold values that are not finite: '
                f'fips.tau={config.tau} does not suit'
            )
        attach_structure(compression.model, [structure])
        widths = [target.width for target in group.targets]
        columns = parts.factor.split(widths, dim=1)
        for target, v, scale in zip(
            group.targets, columns, norms.split(widths)
        ):
            weights = target.module.parametrizations.weight
            with torch.no_grad():
                weights.original.copy_(v)
                weights[0].base.weight.copy_(parts.base)
                if config.scaled:
                    weights[0].scale.copy_(scale)
        compression.svd_errors.append(parts.error)


def prepare(model: nn.Module, config: FiPSConfig) -> Compression:
    """Plan a compression and factorise the weights of the model.

    Args:
        model: The model; it is changed, see :func:`factorize`.
        config: Settings.

    Returns:
        The compression, for :func:`.calibration.calibrate`.

    Raises:
        ValueError: As :func:`plan_compression` and :func:`factorize`.
    """
    compression = plan_compression(model, config)
    factorize(compression)
    return compression


def convert(model: nn.Module, execution: str = 'materialize') -> int:
    """Choose how a compressed model computes, for inference.

    Args:
        model: The model; it is changed. It can be trained as a dense one
            afterwards, but is no longer compressed.
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
    return EXECUTIONS[execution](model)
