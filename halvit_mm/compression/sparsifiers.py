"""Which entries of the factors are not zero.

FiPS, Sec. 3 (Local Error Minimization) and App. A.2.2.
"""

from logging import WARNING
from typing import List, Optional, Sequence

import torch

from ..checkpoint.log import say
from .factorized_weight import FactorizedWeight
from .masks import Scope, flat, magnitudes_of, prune, set_masks, unflat
from .schedulers import cosine, gmp_sparsity


class Sparsifier:
    """Sets and changes the masks of factors.

    Args:
        scopes: From :func:`scopes_of`.
        sparsity: Share of the entries of a scope that is zero at the end.
        total_steps: Optimiser steps in all.
        interval: Steps between changes (50 in the paper).
        end: Share of the steps after which masks rest; None for the method's
            own.
    """

    default_end = 1.0

    def __init__(
        self,
        scopes: Sequence[Scope],
        sparsity: float,
        total_steps: int,
        interval: int = 50,
        end: Optional[float] = None,
    ) -> None:
        self.scopes = scopes
        self.sparsity = sparsity
        self.interval = interval
        self.total_steps = total_steps
        end = self.default_end if end is None else end
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


class Surgeon(Sparsifier):
    """What :mod:`.factor_surgery` has chosen, once and for all."""

    def start(self) -> None:
        """Leave the masks as they are."""


class Dense(Sparsifier):
    """Nothing is pruned: the rank alone meets the budget."""

    def start(self) -> None:
        """Keep all entries."""
        for scope in self.scopes:
            prune(scope, 0.0)


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
        args: The arguments of :class:`Sparsifier`.
        ratio: Share of the entries that is exchanged at the start (0.3 in
            RigL's paper; FiPS's text has lost its figure: our choice).
        kwargs: The arguments of :class:`Sparsifier` by keyword.
    """

    default_end = 0.75

    def __init__(self, *args, ratio: float = 0.3, **kwargs) -> None:
        super().__init__(*args, **kwargs)
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
        weights = self.weights()
        gradients = [w.gradient for w in weights if w.gradient is not None]
        if all(torch.isfinite(gradient).all() for gradient in gradients):
            ratio = cosine(step, self.end, self.ratio)
            for scope in self.scopes:
                self._exchange(scope, ratio)
        else:  # a step that a loss scaler skips, too
            say(
                f'RigL: gradients of step {step} are not finite, entries stay',
                WARNING,
            )
        for weight in weights:
            weight.keeps_gradient = False
            weight.gradient = None

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
        for factor, part in unflat(scope, is_new):
            factor.factor[part] = 0


METHODS = dict(gmp=GMP, rigl=RigL, static=Static, dense=Dense, obs=Surgeon)


def build_sparsifier(method: str, *args, **kwargs) -> Sparsifier:
    """Make the :class:`Sparsifier` of a method from its arguments.

    Raises:
        ValueError: For a method that is not in :data:`METHODS`.
    """
    if method not in METHODS:
        raise ValueError(f'method={method!r}: choose one of {list(METHODS)}')
    return METHODS[method](*args, **kwargs)
