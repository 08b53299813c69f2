"""Inference through the rank: ``(x U) V`` instead of ``x (U V)``.

Shapes: d dimension of the base, r rank, p columns of a weight.
"""

from typing import List

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .factorized_weight import FactorizedWeight
from .parametrization import factors

__all__ = ['LowRankLinear', 'tied_layers', 'to_low_rank']


class LowRankLinear(nn.Module):
    """A linear map through the rank; the base stays the group's.

    Args:
        weight: The parametrization of the map's weight.
        factor: (r, p), V.
        bias: (out_features,) or None.
    """

    def __init__(
        self, weight: FactorizedWeight, factor: Tensor, bias: Tensor
    ) -> None:
        super().__init__()
        self._base = (weight.base,)
        self.transposed = weight.transposed
        factor = factor * weight.mask
        if weight.scale is not None:
            factor = factor * weight.scale
        self.factor = nn.Parameter(factor.detach().clone())
        self.bias = bias

    @property
    def weight(self) -> Tensor:
        """(out_features, in_features), for modules that read it."""
        weight = self._base[0].weight @ self.factor
        return weight.t() if self.transposed else weight

    def forward(self, x: Tensor) -> Tensor:
        """Apply the map to (..., in_features)."""
        base = self._base[0].weight
        if self.transposed:  # reads d numbers
            return F.linear(x @ base, self.factor.t(), self.bias)
        return F.linear(F.linear(x, self.factor), base, self.bias)


def tied_layers(model: nn.Module) -> List[str]:
    """Find layers that cannot compute through the rank.

    Args:
        model: A model with factors.

    Returns:
        Full names of the layers that use their weight more than once.
    """
    return [
        f.name for f in factors(model) if getattr(f.module, 'num_uses', 1) > 1
    ]


@torch.no_grad()
def to_low_rank(model: nn.Module) -> int:
    """Replace linear layers that have factors.

    Args:
        model: The model; it is changed.

    Returns:
        Number of layers.

    Raises:
        ValueError: If a layer uses its weight for more than one linear map.
    """
    found = list(factors(model))
    if tied := tied_layers(model):
        raise ValueError(
            f'{tied[:3]}: a tied layer uses its weight twice and cannot go '
            "through the rank; use execution='materialize'"
        )
    for factor in found:
        parent, _, leaf = factor.name.rpartition('.')
        layer = LowRankLinear(factor.weight, factor.factor, factor.module.bias)
        setattr(model.get_submodule(parent), leaf, layer)
    return len(found)
