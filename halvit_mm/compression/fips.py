"""FiPS: a shared dense base and sparse factors for groups of weights.

Learning Parameter Sharing with Tensor Decompositions and Sparsity (Uyuk et
al., 2024). ``prepare`` factorises, ``calibrate`` makes units do again what
they did, ``convert`` chooses how the result is computed.
"""

from dataclasses import dataclass, field, replace
from logging import WARNING
from typing import Dict, List, Sequence

import torch
from torch import nn

from ..checkpoint.log import say
from .architecture import with_groups
from .config import FiPSConfig
from .decomposition import decompose
from .factor_training import FactorTraining
from .parametrization import factors
from .structure import (
    Structure,
    attach_structure,
    sparsity_of,
    structure_of,
)
from .targets import Group, Unit, find_groups


@dataclass
class Compression:
    """A compression of one model: what all its steps work with.

    Attributes:
        model: The model that is compressed.
        config: Settings, with the groups that were found if they had none.
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

    def prepare(self) -> None:
        """Factorise the weights of the model, see :func:`factorize`."""
        factorize(self)

    @property
    def parameters(self) -> int:
        """Number of parameters of the groups, without what is pruned.

        Bases, factors and scales, and the weights of groups that stay dense.
        """
        bases = sum(s.dim * s.rank for s in self.structures)
        scales = sum(s.width for s in self.structures if s.scaled)
        dense = sum(s.dense_parameters for s in self.kept_dense)
        kept = sum(int(f.weight.mask.sum()) for f in factors(self.model))
        return bases + scales + dense + kept

    @property
    def dense_parameters(self) -> int:
        """Number of parameters of the groups' weights as they were."""
        found = [*self.structures, *self.kept_dense]
        return sum(structure.dense_parameters for structure in found)

    def density(self, names: Sequence[str]) -> float:
        """Compute the share of factors' entries that are kept.

        Args:
            names: Full names of weights.

        Returns:
            The share, 0 to 1.
        """
        masks = [f.weight.mask for f in factors(self.model) if f.name in names]
        kept = sum(int(mask.sum()) for mask in masks)
        return kept / sum(mask.numel() for mask in masks)

    def share_of(self, unit: str) -> float:
        """Compute the density of a unit's factors."""
        return self.density(self._targets_of(unit))

    def row_of(self, unit: str) -> Dict[str, str]:
        """Say what becomes of a unit, for a table."""
        names = self._targets_of(unit)
        rank = next(
            structure.rank
            for structure in self.structures
            if names[0] in [target.name for target in structure.targets]
        )
        return dict(rank=str(rank), density=f'{self.share_of(unit):.4f}')

    def _targets_of(self, unit: str) -> List[str]:
        return [
            target.name
            for group in self.groups
            for own in group.units
            if own.name == unit
            for target in own.targets
        ]

    def training_of(self, units: List[Unit]) -> FactorTraining:
        """Say what is trained of the units of a pass."""
        sparsities = {
            target.name: sparsity_of(structure, self.config)
            for structure in self.structures
            for target in structure.targets
        }
        return FactorTraining(self.model, units, self.config, sparsities)


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
    config = with_groups(model, config)
    groups = find_groups(model, config.groups, config.square)
    tied = [
        target.name
        for group in groups
        for target in group.targets
        if getattr(target.module, 'num_uses', 1) > 1
    ]
    if tied and config.method == 'obs':
        say(
            f'{len(tied)} tied layers, such as {tied[0]}: the brain surgeon '
            "treats weights that are used once, fips.method='gmp' instead",
            WARNING,
        )
        config = replace(config, method='gmp')
    compression = Compression(model, config)
    for group in groups:
        structure = structure_of(group, config)
        itemsize = group.targets[0].module.weight.element_size()
        sparsity = sparsity_of(structure, config)
        size = structure.relative_size(sparsity, itemsize)
        is_kept = size >= 1 and config.rank is None
        if size >= 1:
            how = f'rank {structure.rank}, sparsity {sparsity:.3g}'
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
