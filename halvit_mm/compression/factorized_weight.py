"""Weights that are products of a shared base and a sparse factor.

The parameter is factorised, not the module: an ``nn.Linear`` and a tied layer
are one code path, and both uses of a tied weight read one product.
Shapes: d dimension of the base, r rank, p columns of a weight.
"""

import copy
from typing import Optional, Tuple

import torch
from torch import Tensor, nn


class SharedBase(nn.Module):
    """The base U of a group, (d, r)."""

    def __init__(self, dim: int, rank: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(dim, rank))


class FactorizedWeight(nn.Module):
    """Parametrization of one weight: ``base (mask * factor)``.

    The factor V is the parameter that it gets (``original`` of PyTorch's
    parametrization). Pruned entries of V get no gradient.

    In eval mode and without gradients the product is kept for the next call,
    until something has changed. Changes are seen by the version counters of
    the tensors. Writes through ``.data``, as averaged models make them, do
    not count there: deep copies, such as an averaged model is, therefore
    multiply at every call, and where such a write goes into the original
    itself, its product is dropped by the next ``train()`` or ``eval()``.

    Args:
        base: The group's base. It is not registered here: the model owns it.
        width: p.
        transposed: Whether the weight is (p, d) instead of (d, p).
        scaled: Whether each column has a learnt scale.
    """

    def __init__(
        self,
        base: SharedBase,
        width: int,
        transposed: bool,
        scaled: bool = False,
    ) -> None:
        super().__init__()
        self._base = (base,)  # in a tuple nobody registers it
        rank = base.weight.shape[1]
        self.transposed = transposed
        self.register_buffer('mask', torch.ones(rank, width, dtype=torch.bool))
        self.scale = nn.Parameter(torch.ones(width)) if scaled else None
        #: Whether :attr:`gradient` is wanted of the next backward pass.
        self.keeps_gradient = False
        #: (r, p), of all entries, pruned ones as well; for RigL.
        self.gradient: Optional[Tensor] = None
        #: Whether the product may be kept between calls.
        self.keeps_product = True
        self._product: Optional[Tensor] = None
        self._versions: Tuple[int, ...] = ()

    @property
    def base(self) -> SharedBase:
        """The base of the group, which the model owns."""
        return self._base[0]

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Make V, to be filled: (r, p) for a weight (p, d) or (d, p)."""
        return weight.new_zeros(self.mask.shape)

    def forward(self, factor: Tensor) -> Tensor:
        """Multiply V, (r, p), to the weight, (p, d) or (d, p)."""
        if self.training or torch.is_grad_enabled():
            self._product = None
            return self._multiply(factor)
        product, versions = self._product, self._count(factor)
        if product is None or self._versions != versions:
            # In the weights' dtype, whatever the context asks for this time.
            with torch.autocast(factor.device.type, enabled=False):
                product = self._multiply(factor)
            if self.keeps_product:
                self._product, self._versions = product, versions
        return product

    def _count(self, factor: Tensor) -> Tuple[int, ...]:
        """Collect what a change in place would change: version counters."""
        tensors = (factor, self.base.weight, self.mask, self.scale)
        return tuple(
            x
            for t in tensors
            if t is not None
            for x in (t.data_ptr(), 0 if t.is_inference() else t._version)
        )

    def _multiply(self, factor: Tensor) -> Tensor:
        factor = factor * self.mask
        if self.keeps_gradient and factor.requires_grad:
            factor.register_hook(self._keep)
        weight = self.base.weight @ factor
        if self.scale is not None:
            weight = weight * self.scale
        return weight.t() if self.transposed else weight

    def _keep(self, gradient: Tensor) -> None:
        total = 0 if self.gradient is None else self.gradient
        self.gradient = total + gradient.detach()

    def train(self, mode: bool = True) -> 'FactorizedWeight':
        """Set the mode; the product that was kept is dropped."""
        self._product = None
        return super().train(mode)

    def _apply(self, *args, **kwargs) -> 'FactorizedWeight':
        self._product = None
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        self._product = None
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict:
        """Copies start without the product."""
        return {**self.__dict__, '_product': None, 'gradient': None}

    def __deepcopy__(self, memo: dict) -> 'FactorizedWeight':
        """Copy; the copy multiplies at every call."""
        twin = self.__class__.__new__(self.__class__)
        memo[id(self)] = twin
        twin.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        twin.keeps_product = False
        return twin
