"""Masks over factors: what is compared, and which entries are kept.

Masks are exact: of the N entries of a scope, ``round((1 - sparsity) N)`` are
kept, whatever ties.
"""

from typing import Callable, Dict, Iterator, List, Sequence, Tuple

import torch
from torch import Tensor

from .parametrization import NamedFactor

#: Where magnitudes are compared; the paper's choice is the whole model.
SCOPES = ('model', 'group', 'layer')

Scope = List[NamedFactor]


def scopes_of(factors: Sequence[NamedFactor], scope: str) -> List[Scope]:
    """Group factors whose magnitudes are compared.

    Args:
        factors: Factors of a model.
        scope: One of :data:`SCOPES`.

    Raises:
        ValueError: For an unknown scope.
    """
    if scope not in SCOPES:
        raise ValueError(f'prune_scope={scope!r}: choose one of {SCOPES}')
    found: Dict[object, Scope] = {}
    for factor in factors:
        keys = dict(model=0, group=id(factor.weight.base), layer=factor.name)
        found.setdefault(keys[scope], []).append(factor)
    return list(found.values())


def flat(scope: Scope, value: Callable[[NamedFactor], Tensor]) -> Tensor:
    """Collect one number per entry of a scope, (entries,)."""
    return torch.cat([value(factor).flatten() for factor in scope])


def unflat(
    scope: Scope, values: Tensor
) -> Iterator[Tuple[NamedFactor, Tensor]]:
    """Give each factor its part, (r, p), of what :func:`flat` collected."""
    masks = [factor.weight.mask for factor in scope]
    parts = values.split([mask.numel() for mask in masks])
    for factor, mask, part in zip(scope, masks, parts):
        yield factor, part.view_as(mask)


def magnitudes_of(factor: NamedFactor) -> Tensor:
    """Magnitudes of a factor's entries, (r, p), pruned ones as well."""
    return factor.factor.detach().abs()


def set_masks(scope: Scope, kept: Tensor) -> None:
    """Keep entries, by their indices in :func:`flat`, and prune others."""
    mask = torch.zeros_like(flat(scope, lambda factor: factor.weight.mask))
    mask[kept] = True
    for factor, part in unflat(scope, mask):
        factor.weight.mask.copy_(part)


def prune(scope: Scope, sparsity: float) -> None:
    """Keep the largest entries of a scope; a share of ``sparsity`` goes."""
    magnitudes = flat(scope, magnitudes_of)
    kept = round((1 - sparsity) * len(magnitudes))
    set_masks(scope, magnitudes.topk(kept).indices)
