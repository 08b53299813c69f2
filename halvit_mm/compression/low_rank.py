"""Inference through the rank: ``(x U) V`` instead of ``x (U V)``.

Shapes: d dimension of the base, r rank, p columns of a weight.
"""

from typing import List

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .parametrization import NamedFactor, factors


class LowRankLinear(nn.Module):
    """A linear map through the rank; the base stays the group's."""

    def __init__(self, source: NamedFactor) -> None:
        super().__init__()
        weight = source.weight
        self._base = (weight.base,)
        self.transposed = weight.transposed
        factor = source.factor * weight.mask
        if weight.scale is not None:
            factor = factor * weight.scale
        self.factor = nn.Parameter(factor.detach())
        self.bias = source.module.bias

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
    """Full names of layers that use a factorised weight more than once.

    They cannot compute through the rank.
    """
    return [
        f.name for f in factors(model) if getattr(f.module, 'num_uses', 1) > 1
    ]


@torch.no_grad()
def to_low_rank(model: nn.Module) -> int:
    """Replace the linear layers of a model that have factors; count them.

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
        setattr(model.get_submodule(parent), leaf, LowRankLinear(factor))
    return len(found)
