"""Factorised weights in a model: attached, found, made dense again.

Shapes: d dimension of the base, r rank, p columns of a weight.
"""

from contextlib import contextmanager
from typing import Iterator, NamedTuple, Sequence, Tuple

from torch import nn
from torch.nn.utils import parametrize

from .factorized_weight import FactorizedWeight, SharedBase

__all__ = [
    'BASES',
    'NamedFactor',
    'all_trained',
    'attach',
    'factors',
    'materialize',
]

#: The name under which a model registers the bases of its groups.
BASES = 'shared_bases'


class NamedFactor(NamedTuple):
    """A factor of a model.

    Attributes:
        name: Full name of the module whose weight it belongs to.
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
        model: Gets the base registered.
        group: Name of the group.
        dim: d.
        rank: r.
        targets: Modules, and whether their weights are (p, d).
        scaled: As for :class:`FactorizedWeight`.

    Returns:
        The base. It requires gradients if a factor does: where a backbone
        freezes all layers of a group, its base is frozen as well.

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
    """Find the factors of a model.

    Args:
        model: Any module.

    Yields:
        Its factors, in the order of its modules.
    """
    for name, module in model.named_modules():
        if not parametrize.is_parametrized(module, 'weight'):
            continue
        weight = module.parametrizations.weight[0]
        if isinstance(weight, FactorizedWeight):
            yield NamedFactor(name, module, weight)


def materialize(model: nn.Module) -> int:
    """Multiply once and for all: every weight becomes dense again.

    Args:
        model: The model; it is changed and has no bases afterwards.

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


@contextmanager
def all_trained(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Let gradients reach what a backbone has frozen, and freeze it again.

    Args:
        parameters: Parameters, frozen or not.
    """
    frozen = [p for p in parameters if not p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
            parameter.grad = None
