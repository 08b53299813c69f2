"""Structured pruning: FFNs with fewer hidden units, otherwise as before.

The optimal brain surgeon removes hidden units one after another and refits the
second matrix (:func:`.surgeon.prune_columns`); then the blocks are calibrated
as FiPS's are (:mod:`.calibration`). The result is a plain, smaller model.
"""

from dataclasses import dataclass
from typing import Dict, List, NamedTuple

import torch
from torch import Tensor, nn

from .activations import ActivationStore
from .architecture import with_groups
from .config import PruneConfig
from .surgeon import measure, prune_columns
from .targets import Group, Unit, find_groups
from .trained import Trained

#: What widths are multiples of: products of odd shapes are slow.
MULTIPLE = 8


class Width(NamedTuple):
    """Hidden units of an FFN, before and after."""

    before: int
    after: int


@dataclass
class Pruning:
    """A pruning of one model.

    Attributes:
        model: The model that is pruned.
        config: Settings.
        groups: FFNs that are calibrated together.
        widths: Hidden units of each FFN, by its name.
    """

    model: nn.Module
    config: PruneConfig
    groups: List[Group]
    widths: Dict[str, Width]

    @property
    def passes(self) -> List[List[Unit]]:
        """Units that are calibrated together, for each pass."""
        return [group.units for group in self.groups]

    def training_of(self, units: List[Unit]) -> 'WidthTraining':
        """Say what is trained of the units of a pass."""
        return WidthTraining(units)

    def prepare(self) -> None:
        """Give the FFNs their final width; weights come with the images."""
        for group in self.groups:
            for unit in group.units:
                first, second = (target.module for target in unit.targets)
                width = self.widths[unit.name].after
                _resize(first, first.weight[:width], first.bias[:width])
                _resize(second, second.weight[:, :width], second.bias)

    @property
    def parameters(self) -> int:
        """Number of parameters of the FFNs' matrices, after."""
        return sum(self._count(width.after) for width in self.widths.values())

    @property
    def dense_parameters(self) -> int:
        """Number of parameters of the FFNs' matrices, before."""
        return sum(self._count(width.before) for width in self.widths.values())

    def _count(self, width: int) -> int:
        return 2 * self.groups[0].dim * width

    def share_of(self, unit: str) -> float:
        """Compute the share of a unit's hidden units that stay."""
        width = self.widths[unit]
        return width.after / width.before

    def row_of(self, unit: str) -> Dict[str, str]:
        """Say what becomes of a unit, for a table."""
        width = self.widths[unit]
        return {'hidden units': f'{width.after} of {width.before}'}


class WidthTraining(Trained):
    """All parameters of FFNs that have become narrower.

    Args:
        units: FFNs of the model that is pruned, with their final width.
    """

    @torch.no_grad()
    def reduce(
        self, originals: Dict[str, nn.Module], store: ActivationStore
    ) -> None:
        """Choose the hidden units and refit the second matrix."""
        for unit in self.units:
            old = _layers(unit, originals[unit.name])
            inputs = measure(
                originals[unit.name], {'second': old[1]}, store, unit.name
            )['second']
            first, second = (target.module for target in unit.targets)
            kept = len(first.weight)
            weight, indices = prune_columns(
                old[1].weight, inputs.covariance, kept
            )
            first.weight.copy_(old[0].weight[indices])
            first.bias.copy_(old[0].bias[indices])
            second.weight.copy_(weight)
            lost = old[1].weight.clone()
            lost[:, indices] -= second.weight
            second.bias.copy_(old[1].bias + inputs.moved_bias(lost))


def _layers(unit: Unit, module: nn.Module) -> List[nn.Linear]:
    """The layers of a unit's targets in another module of its kind."""
    start = len(unit.name) + 1
    return [module.get_submodule(t.name[start:]) for t in unit.targets]


def _resize(linear: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    linear.weight = nn.Parameter(weight.detach().clone())
    linear.bias = nn.Parameter(bias.detach().clone())
    linear.out_features, linear.in_features = weight.shape


def plan_pruning(model: nn.Module, config: PruneConfig) -> Pruning:
    """Find the FFNs of a model and their final widths.

    Args:
        model: The model; it is not changed.
        config: Settings. Widths are multiples of :data:`MULTIPLE` where they
            were.

    Returns:
        The pruning, whose ``prepare`` changes the model.

    Raises:
        ValueError: As :func:`.targets.find_groups`; if a unit is no FFN of
            two matrices with biases; or if attentions are asked for.
    """
    if config.attention:
        raise ValueError(
            'prune treats FFNs only: leave prune.attention out, or use FiPS'
        )
    config = with_groups(model, config)
    groups = find_groups(model, config.groups)
    widths = {}
    for unit in (unit for group in groups for unit in group.units):
        width = _hidden_units(unit)
        multiple = MULTIPLE if width % MULTIPLE == 0 else 1
        after = multiple * round(config.budget * width / multiple)
        if not after:
            raise ValueError(
                f'prune.budget={config.budget} leaves none of the {width} '
                f'hidden units of {unit.name}: at least {multiple / width:.4f}'
            )
        widths[unit.name] = Width(width, after)
    return Pruning(model, config, groups, widths)


def _hidden_units(unit: Unit) -> int:
    """Check that a unit is an FFN of two matrices; its hidden width."""
    shapes = [tuple(t.module.weight.shape) for t in unit.targets]
    is_ffn = len(shapes) == 2 and shapes[0] == shapes[1][::-1]
    if not is_ffn or not unit.targets[0].transposed:
        raise ValueError(
            f'{unit.name} holds weights of {shapes}: prune treats FFNs of two '
            'matrices, D to hidden and back. A tied FFN has one for both: '
            'FiPS treats it'
        )
    if any(t.module.bias is None for t in unit.targets):
        raise ValueError(f'{unit.name} has no biases, which prune moves')
    return shapes[0][0]
