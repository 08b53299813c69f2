"""Masks over factors: what is compared, and which entries are kept.

Masks are exact: of the N entries of a scope, ``round((1 - sparsity) N)`` are
kept, whatever ties.
"""

from typing import Callable, Dict, List, Sequence

import torch
from torch import Tensor

from .parametrization import NamedFactor

__all__ = [
    'SCOPES',
    'Scope',
    'flat',
    'magnitudes_of',
    'prune',
    'scopes_of',
    'set_masks',
]

#: Where magnitudes are compared; the paper's choice is the whole model.
SCOPES = ('model', 'group', 'layer')

Scope = List[NamedFactor]


def scopes_of(factors: Sequence[NamedFactor], scope: str) -> List[Scope]:
    """Group factors whose magnitudes are compared.

    Args:
        factors: Factors of a model.
        scope: One of :data:`SCOPES`.

    Returns:
        The groups.

    Raises:
        ValueError: For an unknown scope.
    """
    if scope not in SCOPES:
        raise ValueError(f'prune_scope={scope!r}: choose one of {SCOPES}')
    found: Dict[object, Scope] = {}
    for factor in factors:
        key = dict(
            model=None, group=id(factor.weight.base), layer=factor.name
        )[scope]
        found.setdefault(key, []).append(factor)
    return list(found.values())


def flat(scope: Scope, value: Callable[[NamedFactor], Tensor]) -> Tensor:
    """Collect one number per entry.

    Args:
        scope: Factors.
        value: What is collected of each, such as :func:`magnitudes_of`.

    Returns:
        (entries of the scope,).
    """
    return torch.cat([value(factor).flatten() for factor in scope])


def magnitudes_of(factor: NamedFactor) -> Tensor:
    """Magnitudes of a factor's entries, (r, p), pruned ones as well."""
    return factor.factor.detach().abs()


def set_masks(scope: Scope, kept: Tensor) -> None:
    """Keep the entries of some indices, and prune all others.

    Args:
        scope: Factors.
        kept: Indices into all entries of the scope, as :func:`flat` orders
            them.
    """
    total = sum(factor.weight.mask.numel() for factor in scope)
    mask = torch.zeros(total, dtype=torch.bool, device=kept.device)
    mask[kept] = True
    sizes = [factor.weight.mask.numel() for factor in scope]
    for factor, part in zip(scope, mask.split(sizes)):
        factor.weight.mask.copy_(part.view_as(factor.weight.mask))


def prune(scope: Scope, sparsity: float) -> None:
    """Keep the largest entries of a scope.

    Args:
        scope: Factors that are compared with each other.
        sparsity: Share of the entries that becomes zero.
    """
    magnitudes = flat(scope, magnitudes_of)
    kept = round((1 - sparsity) * len(magnitudes))
    set_masks(scope, magnitudes.topk(kept).indices)
