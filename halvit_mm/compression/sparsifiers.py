"""Which entries of the factors are not zero.

FiPS, Sec. 3 (Local Error Minimization) and App. A.2.2. Masks are exact: of
the N entries of a scope, ``round((1 - sparsity) N)`` are kept, whatever ties.
"""

import logging
from typing import Callable, Dict, List, Sequence

import torch
from torch import Tensor

from .parametrization import FactorizedWeight, NamedFactor
from .schedulers import cosine, gmp_sparsity

__all__ = ['METHODS', 'SCOPES', 'Sparsifier', 'build_sparsifier', 'scopes_of']

#: Over what magnitudes are compared: the paper's choice is the whole model.
SCOPES = ('model', 'group', 'layer')

Scope = List[NamedFactor]


def scopes_of(factors: Sequence[NamedFactor], scope: str) -> List[Scope]:
    """Args: scope: One of :data:`SCOPES`. Returns: Factors compared."""
    if scope not in SCOPES:
        raise ValueError(f'prune_scope={scope!r}: choose one of {SCOPES}')
    found: Dict[object, Scope] = {}
    for factor in factors:
        key = dict(
            model=None, group=id(factor.weight.base), layer=factor.name
        )[scope]
        found.setdefault(key, []).append(factor)
    return list(found.values())


def num_kept(total: int, sparsity: float) -> int:
    """Args: total: Entries. Returns: How many are not zero."""
    return round((1 - sparsity) * total)


def _flat(scope: Scope, value: Callable[[NamedFactor], Tensor]) -> Tensor:
    return torch.cat([value(factor).flatten() for factor in scope])


def _magnitudes(factor: NamedFactor) -> Tensor:
    return factor.factor.detach().abs()


def _mask(factor: NamedFactor) -> Tensor:
    return factor.weight.mask


def _set_masks(scope: Scope, kept: Tensor) -> None:
    """Args: kept: Indices into all entries of the scope, flat."""
    total = sum(factor.weight.mask.numel() for factor in scope)
    mask = torch.zeros(total, dtype=torch.bool, device=kept.device)
    mask[kept] = True
    sizes = [factor.weight.mask.numel() for factor in scope]
    for factor, part in zip(scope, mask.split(sizes)):
        factor.weight.mask.copy_(part.view_as(factor.weight.mask))


def prune(scope: Scope, sparsity: float) -> None:
    """Keep the largest entries of a scope.

    Args:
        scope: Factors that are compared.
        sparsity: Share of the entries that becomes zero.
    """
    magnitudes = _flat(scope, _magnitudes)
    kept = num_kept(len(magnitudes), sparsity)
    _set_masks(scope, magnitudes.topk(kept).indices)


class Sparsifier:
    """Sets and changes the masks of factors.

    Args:
        scopes: From :func:`scopes_of`.
        sparsity: Share of the entries of a scope that is zero at the end.
        total_steps: Optimiser steps in all.
        interval: Steps between changes (50 in the paper).
        end: Share of the steps after which masks rest.
    """

    def __init__(
        self,
        scopes: Sequence[Scope],
        sparsity: float,
        total_steps: int,
        interval: int = 50,
        end: float = 1.0,
    ) -> None:
        self.scopes = scopes
        self.sparsity = sparsity
        self.interval = interval
        self.total_steps = total_steps
        self.end = max(1, int(end * total_steps))

    def start(self) -> None:
        """Set the masks before the first step."""
        for scope in self.scopes:
            prune(scope, self.sparsity)

    def before_step(self, step: int) -> None:
        """Called before gradients of a step. Args: step: From 1."""

    def finish(self) -> None:
        """Called after the last step."""

    def after_step(self, step: int) -> None:
        """Called after an optimiser step. Args: step: From 1."""

    def _is_due(self, step: int) -> bool:
        return step < self.end and step % self.interval == 0

    def weights(self) -> List[FactorizedWeight]:
        """Of all scopes."""
        return [factor.weight for scope in self.scopes for factor in scope]


class Static(Sparsifier):
    """The largest entries at the start, once and for all."""


class Dense(Sparsifier):
    """Nothing is pruned: the rank alone meets the budget."""

    def start(self) -> None:
        """All entries."""
        for weight in self.weights():
            weight.mask.fill_(True)


class GMP(Sparsifier):
    """Gradual magnitude pruning, the paper's choice.

    Every ``interval`` steps, and exactly at the end, the largest entries are
    kept, of the pruned ones too, which stay about where they were: they get
    no gradient, but the optimiser's momentum moves them a little.
    """

    def start(self) -> None:
        """A third of the final sparsity."""
        self._prune(0)

    def after_step(self, step: int) -> None:
        """Prune to the schedule's sparsity. Args: step: From 1."""
        if self._is_due(step) or step == self.end:
            self._prune(step)

    def finish(self) -> None:
        """All of the sparsity, where the schedule went beyond the steps."""
        if self.end > self.total_steps:
            self._prune(self.end)

    def _prune(self, step: int) -> None:
        for scope in self.scopes:
            prune(scope, gmp_sparsity(step, self.end, self.sparsity))


class RigL(Sparsifier):
    """The lottery rigged (Evci et al., 2020).

    Starts as :class:`Static`; then a share of the entries, falling as a
    cosine, is dropped where it is smallest and grown, from zero, where the
    gradient is largest. The number of entries stays.

    Args:
        ratio: That share at the start (0.3 in RigL's paper; FiPS's text has
            lost its figure: our choice).
        args, kwargs: As for :class:`Sparsifier`; ``end`` is 0.75.
    """

    def __init__(
        self, *args, ratio: float = 0.3, end: float = 0.75, **kwargs
    ) -> None:
        super().__init__(*args, end=end, **kwargs)
        self.ratio = ratio

    def before_step(self, step: int) -> None:
        """Ask for gradients of pruned entries. Args: step: From 1."""
        if self._is_due(step):
            for weight in self.weights():
                weight.keeps_gradient = True
                weight.gradient = None

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Drop and grow. Args: step: From 1."""
        if not self._is_due(step):
            return
        ratio = cosine(step, self.end, self.ratio)
        if self._is_finite():
            for scope in self.scopes:
                self._exchange(scope, ratio)
        else:  # a step that a loss scaler skips, too
            logging.getLogger('halvit_mm').warning(
                'RigL: gradients of step %d are not finite, entries stay', step
            )
        for weight in self.weights():
            weight.keeps_gradient = False
            weight.gradient = None

    def _is_finite(self) -> bool:
        return all(
            torch.isfinite(weight.gradient).all()
            for weight in self.weights()
            if weight.gradient is not None
        )

    def _exchange(self, scope: Scope, ratio: float) -> None:
        missing = [f.name for f in scope if f.weight.gradient is None]
        if missing:
            raise RuntimeError(
                f'no gradient reached the factors of {missing[:3]}: RigL '
                'grows by it'
            )
        mask = _flat(scope, _mask)
        kept = int(mask.sum())
        dropped = min(int(ratio * kept), len(mask) - kept)
        magnitudes = _flat(scope, _magnitudes).masked_fill(~mask, -1)
        stays = magnitudes.topk(kept - dropped).indices
        gradients = _flat(scope, lambda factor: factor.weight.gradient.abs())
        gradients[stays] = -1
        grown = gradients.topk(dropped).indices
        _set_masks(scope, torch.cat((stays, grown)))
        is_new = torch.zeros_like(mask)
        is_new[grown] = True
        is_new &= ~mask  # what was dropped and grown at once goes on
        sizes = [factor.weight.mask.numel() for factor in scope]
        for factor, part in zip(scope, is_new.split(sizes)):
            factor.factor[part.view_as(factor.factor)] = 0


METHODS = dict(gmp=GMP, rigl=RigL, static=Static, dense=Dense)


def build_sparsifier(method: str, *args, **kwargs) -> Sparsifier:
    """Args: method: One of :data:`METHODS`; the rest as the class takes.

    Raises:
        ValueError: For an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f'method={method!r}: choose one of {list(METHODS)}')
    return METHODS[method](*args, **kwargs)
