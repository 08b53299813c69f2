"""Weights that are products of a shared base and a sparse factor.

The parameter is factorised, not the module: an ``nn.Linear`` and a tied layer
are one code path, and both uses of a tied weight read one product.
Shapes: d dimension of the base, r rank, p columns of a weight.
"""

from typing import Iterator, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

__all__ = [
    'BASES',
    'FactorizedWeight',
    'NamedFactor',
    'SharedBase',
    'attach',
    'factors',
    'materialize',
]

#: Under this name a model registers the bases of its groups.
BASES = 'shared_bases'


class SharedBase(nn.Module):
    """U of a group, its one owner.

    Args:
        dim: d.
        rank: r.
    """

    def __init__(self, dim: int, rank: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(dim, rank))


class FactorizedWeight(nn.Module):
    """Parametrization of one weight: ``base (mask * factor)``.

    The factor V is the parameter that it gets (``original`` of PyTorch's
    parametrization). Pruned entries of V get no gradient. In eval mode and
    without gradients the product is kept until something may have changed.

    Args:
        base: Of the group. It is not registered here: the model owns it.
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
        self._product: Optional[Tensor] = None
        self._versions: Tuple[int, ...] = ()

    @property
    def base(self) -> SharedBase:
        """The base of the group."""
        return self._base[0]

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Args: weight: (p, d) or (d, p). Returns: (r, p), V to be filled."""
        return weight.new_zeros(self.mask.shape)

    def forward(self, factor: Tensor) -> Tensor:
        """Args: factor: (r, p). Returns: The weight, (p, d) or (d, p)."""
        if self.training or torch.is_grad_enabled():
            self._product = None
            return self._multiply(factor)
        versions = self._count(factor)
        if self._product is None or self._versions != versions:
            # In the weights' dtype, whatever the context asks for this time.
            with torch.autocast(factor.device.type, enabled=False):
                self._product = self._multiply(factor)
            self._versions = versions
        return self._product

    def _count(self, factor: Tensor) -> Tuple[int, ...]:
        """Tells whether something was changed in place."""
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


class NamedFactor(NamedTuple):
    """A factor of a model.

    Attributes:
        name: Full name of the module whose weight it is of.
        module: That module.
        weight: Its parametrization.
    """

    name: str
    module: nn.Linear
    weight: FactorizedWeight

    @property
    def factor(self) -> nn.Parameter:
        """V, (r, p), pruned entries as they were."""
        return self.module.parametrizations.weight.original


def attach(
    model: nn.Module,
    group: str,
    dim: int,
    rank: int,
    targets: Sequence[Tuple[nn.Linear, bool]],
    scaled: bool = False,
) -> SharedBase:
    """Give weights of a model a shared base; factors start at zero.

    Args:
        model: Gets the base.
        group: Name of the group.
        dim: d.
        rank: r.
        targets: Modules, and whether their weights are (p, d).
        scaled: As for :class:`FactorizedWeight`.

    Returns:
        The base. It is trained if a factor is: where a backbone freezes all
        layers of a group, its base rests as well.

    Raises:
        ValueError: If the model has a base of that name.
    """
    if not hasattr(model, BASES):
        setattr(model, BASES, nn.ModuleDict())
    if group in getattr(model, BASES):
        raise ValueError(
            f'the model has a base {group} already: all groups are factorised '
            'at once'
        )
    base = SharedBase(dim, rank)
    for module, transposed in targets:
        weight = module.weight
        base.to(weight)
        width = weight.shape[0 if transposed else 1]
        parametrization = FactorizedWeight(base, width, transposed, scaled)
        parametrize.register_parametrization(
            module, 'weight', parametrization.to(weight), unsafe=True
        )
    base.weight.requires_grad_(any(_is_trained(m) for m, _ in targets))
    getattr(model, BASES)[group] = base
    return base


def _is_trained(module: nn.Linear) -> bool:
    return module.parametrizations.weight.original.requires_grad


def factors(model: nn.Module) -> Iterator[NamedFactor]:
    """Args: model: Any module. Yields: Its factors, in its order."""
    for name, module in model.named_modules():
        if not parametrize.is_parametrized(module, 'weight'):
            continue
        weight = module.parametrizations.weight[0]
        if isinstance(weight, FactorizedWeight):
            yield NamedFactor(name, module, weight)


def materialize(model: nn.Module) -> int:
    """Multiply once and for all: every weight becomes dense again.

    Args:
        model: Changed; its bases are gone afterwards.

    Returns:
        Number of weights.
    """
    found = list(factors(model))
    for factor in found:
        # The class that PyTorch gave it is also that of its copies, which a
        # removal would break: it gets one of its own.
        cls = type(factor.module)
        own = type(cls.__name__, cls.__bases__, dict(cls.__dict__))
        factor.module.__class__ = own
        parametrize.remove_parametrizations(factor.module, 'weight')
        weight = factor.module.weight
        weight.data = weight.data.contiguous()  # a transposed one is a view
    for module in model.modules():
        if hasattr(module, BASES):
            delattr(module, BASES)
    return len(found)
