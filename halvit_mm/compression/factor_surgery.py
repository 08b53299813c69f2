"""Factors that are pruned so that what stays makes up for what goes.

Beyond the paper, which prunes by magnitude and leaves the rest to gradients.
The base is orthonormal here: a layer that reads the d numbers of the base has
the covariance ``U^T C U`` of its inputs as the Hessian of each column of V, a
layer that writes them has that of its inputs for each row.

Shapes: d dimension of the base, r rank, p columns of a weight.
"""

from typing import Callable, Dict, List, Sequence, Tuple

import torch
from torch import Tensor, nn

from .activations import ActivationStore
from .masks import Scope
from .parametrization import NamedFactor
from .surgeon import Inputs, measure, prune_entries, saliency
from .targets import Unit

#: Rounds in which the units' losses are made equal.
_ROUNDS = 12
#: Batches on which they are measured in between.
_BATCHES = 4


@torch.no_grad()
def operate(
    units: Sequence[Unit],
    originals: Dict[str, nn.Module],
    store: ActivationStore,
    scopes: Sequence[Scope],
    kept: Callable[[Scope], int],
) -> None:
    """Prune factors by the optimal brain surgeon, see :mod:`.surgeon`.

    Args:
        units: Units of the compressed model, factorised.
        originals: The units as they were, by name.
        store: What these take and give.
        scopes: Factors whose entries are compared.
        kept: Number of the entries of a scope that stay.
    """
    layers, seen = {}, {}
    for unit in units:
        original, start = originals[unit.name], len(unit.name) + 1
        own = {
            target.name: original.get_submodule(target.name[start:])
            for target in unit.targets
        }
        layers.update(own)
        seen.update(measure(original, own, store, unit.name))
    for scope in scopes:
        owners = [_owner(f.name, units) for f in scope]
        underrated = dict.fromkeys(owners, 1.0)
        # Twice: what a unit loses in all is known only afterwards.
        for _ in range(2):
            rows = [
                _rows(f, layers[f.name].weight, seen[f.name]) for f in scope
            ]
            costs = [
                saliency(*each) * underrated[owner]
                for each, owner in zip(rows, owners)
            ]
            masks, lost = _choose(costs, owners, kept(scope))
            for factor, each, mask in zip(scope, rows, masks):
                _prune(factor, each, mask)
                layer, inputs = layers[factor.name], seen[factor.name]
                _move_bias(factor, layer, inputs)
            for unit in units:
                if unit.name in underrated:
                    error = _error(unit, store) / lost[unit.name]
                    underrated[unit.name] *= error


def _prune(factor: NamedFactor, rows: Tuple, first: Tensor) -> None:
    weight, mask = prune_entries(*rows, first)
    if factor.weight.transposed:
        weight, mask = weight.t(), mask.t()
    factor.factor.copy_(weight)
    factor.weight.mask.copy_(mask)


def _error(unit: Unit, store: ActivationStore) -> float:
    """Error of a unit on some batches, relative to its output's energy."""
    error = energy = 0.0
    device = next(unit.module.parameters()).device
    for batch in range(min(_BATCHES, store.num_batches)):
        call = store.get(unit.name, batch, device)
        difference = unit.module(*call.args) - call.output
        error += difference.square().sum().item()
        energy += call.output.square().sum().item()
    return max(error, 1e-30) / max(energy, 1e-30)


def _owner(name: str, units: Sequence[Unit]) -> str:
    return next(u.name for u in units if f'{name}.'.startswith(f'{u.name}.'))


def _choose(
    costs: List[Tensor], owners: List[str], kept: int
) -> Tuple[List[Tensor], Dict[str, float]]:
    """Choose entries so that all units lose about the same share of energy.

    Args:
        costs: Of each factor's entries.
        owners: The unit of each factor.
        kept: Number of entries that stay.

    Returns:
        For each factor the entries that stay, and what each unit is thought
        to lose.
    """
    scales = dict.fromkeys(owners, 1.0)
    for _ in range(_ROUNDS):
        scaled = [c * scales[o] for c, o in zip(costs, owners)]
        every = torch.cat([cost.flatten() for cost in scaled])
        stays = torch.zeros_like(every, dtype=torch.bool)
        stays[every.topk(kept).indices] = True
        parts = stays.split([cost.numel() for cost in costs])
        masks = [part.view_as(cost) for part, cost in zip(parts, costs)]
        lost = dict.fromkeys(owners, 1e-30)
        for cost, mask, owner in zip(costs, masks, owners):
            lost[owner] += cost[~mask].sum().item()
        scales = {o: scales[o] * lost[o] ** 0.5 for o in scales}
    return masks, lost


def _rows(
    factor: NamedFactor, weight: Tensor, inputs: Inputs
) -> Tuple[Tensor, Tensor, Tensor]:
    """Rows that are pruned independently, their Hessian and their weights.

    The rows are V^T, (p, r), or V, (r, p), before anything is pruned: what
    fits the layer's outputs best.
    """
    base, covariance = factor.weight.base.weight, inputs.covariance
    if not factor.weight.transposed:
        mean = inputs.row_weight.mean().expand(base.shape[1])
        return base.t() @ weight, covariance, mean
    hessian = base.t() @ covariance @ base
    if base.shape[1] == len(base):
        rows = weight @ base
    else:
        ridge = 1e-6 * hessian.diagonal().mean()
        damped = hessian + ridge * torch.eye(len(hessian)).to(hessian)
        both = base.t() @ covariance @ weight.t()
        rows = torch.linalg.solve(damped, both).t()
    return rows, hessian, inputs.row_weight


def _move_bias(factor: NamedFactor, layer: nn.Linear, inputs: Inputs) -> None:
    bias = factor.module.bias
    if bias is not None:
        change = layer.weight - factor.module.weight
        bias.copy_(layer.bias + inputs.moved_bias(change))
