"""Which entries of the factors are not zero.

FiPS, Sec. 3 (Local Error Minimization) and App. A.2.2.
"""

import logging
from typing import List, Sequence

import torch

from .factorized_weight import FactorizedWeight
from .masks import Scope, flat, magnitudes_of, prune, set_masks
from .schedulers import cosine, gmp_sparsity

__all__ = ['METHODS', 'RigL', 'Sparsifier', 'build_sparsifier']


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
        """Prepare for the gradients of a step, counted from 1."""

    def finish(self) -> None:
        """Act after the last step."""

    def after_step(self, step: int) -> None:
        """Act after a step of the optimiser, counted from 1."""

    def _is_due(self, step: int) -> bool:
        return step < self.end and step % self.interval == 0

    def weights(self) -> List[FactorizedWeight]:
        """Collect the weights of all scopes."""
        return [factor.weight for scope in self.scopes for factor in scope]


class Static(Sparsifier):
    """The largest entries at the start, once and for all."""


class Dense(Sparsifier):
    """Nothing is pruned: the rank alone meets the budget."""

    def start(self) -> None:
        """Keep all entries."""
        for weight in self.weights():
            weight.mask.fill_(True)


class GMP(Sparsifier):
    """Gradual magnitude pruning, the paper's choice.

    Every ``interval`` steps, and exactly at the end, the largest entries are
    kept. Pruned ones may come back: they get no gradient, but keep about
    their value (the optimiser's momentum moves them a little).
    """

    def start(self) -> None:
        """Prune to a third of the final sparsity."""
        self._prune(0)

    def after_step(self, step: int) -> None:
        """Prune to the schedule's sparsity."""
        if self._is_due(step) or step == self.end:
            self._prune(step)

    def finish(self) -> None:
        """Prune to the final sparsity, if the steps ended before it."""
        if self.end > self.total_steps:
            self._prune(self.end)

    def _prune(self, step: int) -> None:
        for scope in self.scopes:
            prune(scope, gmp_sparsity(step, self.end, self.sparsity))


class RigL(Sparsifier):
    """The lottery rigged (Evci et al., 2020).

    It starts as :class:`Static`. At each change the smallest entries are
    dropped, and as many grow, from zero, where the gradient is largest. The
    share that is exchanged falls as a cosine.

    Args:
        ratio: That share at the start (0.3 in RigL's paper; FiPS's text has
            lost its figure: our choice).
        end: Share of the steps after which the masks stay.
        args, kwargs: As for :class:`Sparsifier`.
    """

    def __init__(
        self, *args, ratio: float = 0.3, end: float = 0.75, **kwargs
    ) -> None:
        super().__init__(*args, end=end, **kwargs)
        self.ratio = ratio

    def before_step(self, step: int) -> None:
        """Ask for the gradients of pruned entries where they are needed."""
        if self._is_due(step):
            for weight in self.weights():
                weight.keeps_gradient = True
                weight.gradient = None

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Drop and grow entries where it is time."""
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
        mask = flat(scope, lambda factor: factor.weight.mask)
        kept = int(mask.sum())
        dropped = min(int(ratio * kept), len(mask) - kept)
        magnitudes = flat(scope, magnitudes_of).masked_fill(~mask, -1)
        stays = magnitudes.topk(kept - dropped).indices
        gradients = flat(scope, lambda factor: factor.weight.gradient.abs())
        gradients[stays] = -1
        grown = gradients.topk(dropped).indices
        set_masks(scope, torch.cat((stays, grown)))
        is_new = torch.zeros_like(mask)
        is_new[grown] = True
        is_new &= ~mask  # what was dropped and grown at once goes on
        sizes = [factor.weight.mask.numel() for factor in scope]
        for factor, part in zip(scope, is_new.split(sizes)):
            factor.factor[part.view_as(factor.factor)] = 0


METHODS = dict(gmp=GMP, rigl=RigL, static=Static, dense=Dense)


def build_sparsifier(method: str, *args, **kwargs) -> Sparsifier:
    """Make a sparsifier.

    Args:
        method: One of :data:`METHODS`.
        args, kwargs: As for :class:`Sparsifier`.

    Returns:
        The sparsifier.

    Raises:
        ValueError: For an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f'method={method!r}: choose one of {list(METHODS)}')
    return METHODS[method](*args, **kwargs)
