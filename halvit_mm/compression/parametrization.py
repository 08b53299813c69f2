"""Factorised weights in a model: found, trained, made dense again.

Shapes: r rank, p columns of a weight.
"""

from contextlib import contextmanager
from typing import Iterator, NamedTuple, Sequence

from torch import nn
from torch.nn.utils import parametrize

from .factorized_weight import FactorizedWeight

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


def factors(model: nn.Module) -> Iterator[NamedFactor]:
    """Find the factors of a model, in the order of its modules."""
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module, 'weight'):
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
    for _, module, _ in found:
        # The class that PyTorch gave it is also that of its copies, which a
        # removal would break: it gets one of its own.
        cls = type(module)
        module.__class__ = type(cls.__name__, cls.__bases__, {**vars(cls)})
        parametrize.remove_parametrizations(module, 'weight')
        # a transposed one is a view
        module.weight.data = module.weight.data.contiguous()
    for module in model.modules():
        if hasattr(module, BASES):
            delattr(module, BASES)
    return len(found)


@contextmanager
def all_trained(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Let gradients reach what a backbone has frozen, and freeze it again."""
    frozen = [p for p in parameters if not p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
            parameter.grad = None
