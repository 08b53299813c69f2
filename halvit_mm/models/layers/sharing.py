"""Layers that share parameters: one module holds them, others borrow them.

Two modules of one class, each with the parameters that the other has not,
make up one layer: the holder is registered once, by the backbone, and handed
to the others when they are called. Thus every parameter has one owner.
"""

from typing import Callable, Optional, Tuple

from torch import Tensor, nn

__all__ = ['borrows', 'keep_parameters', 'norm_weights']


def keep_parameters(
    module: nn.Module, keeps: Callable[[str], bool]
) -> nn.Module:
    """Take away parameters; in their place is None.

    Args:
        module: Changed.
        keeps: Tells from a parameter's name in ``module`` whether it stays.

    Returns:
        ``module``.
    """
    for name, _ in list(module.named_parameters()):
        if not keeps(name):
            owner, _, leaf = name.rpartition('.')
            module.get_submodule(owner).register_parameter(leaf, None)
    return module


def borrows(module: nn.Module) -> bool:
    """Whether weights of linear maps in a module are another one's."""
    linears = (m for m in module.modules() if isinstance(m, nn.Linear))
    return any(linear.weight is None for linear in linears)


def norm_weights(
    norm: nn.LayerNorm, shared: Optional[nn.LayerNorm]
) -> Tuple[Tensor, Tensor, float]:
    """Weight, bias and eps of a norm.

    Args:
        norm: With parameters, or None in their place.
        shared: Has the parameters that ``norm`` has not.

    Returns:
        (D,), (D,) and the number that is added to the variance.

    Raises:
        ValueError: If it is no layer norm.
    """
    if type(norm) is not nn.LayerNorm:
        raise ValueError(f'{norm} cannot be shared: it is no LayerNorm')
    weight = shared.weight if norm.weight is None else norm.weight
    bias = shared.bias if norm.bias is None else norm.bias
    return weight, bias, norm.eps
