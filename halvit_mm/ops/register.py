"""Registration of an operator with PyTorch.

Each operator's file has its schema, what it computes (``definition``), a
fallback for any device and float dtype, the shapes of its results for tracing,
its gradient and its multiply-adds. A compiled library adds kernels for CUDA
and their gradient in C++ at CUDA's own dispatch keys (:mod:`.build`).
"""

from functools import wraps
from typing import Callable, Dict, Optional, Tuple

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from .checks import without_autocast

NAMESPACE = 'halvit'

#: Kept alive: the operators go when it goes.
_LIBRARY = torch.library.Library(NAMESPACE, 'DEF')


#: Name -> schema of every operator.
SCHEMAS: Dict[str, str] = {}
#: Name -> what computes it without a library.
FALLBACKS: Dict[str, Callable] = {}
#: Name -> its multiply-adds, for those that have any.
MACS: Dict[str, Callable[..., int]] = {}


def register(
    name: str,
    schemas: Dict[str, str],
    fallback: Callable,
    fake: Callable,
    macs: Optional[Callable[..., int]] = None,
    gradient: Optional[Tuple[Callable, Callable]] = None,
) -> torch._ops.OpOverload:
    """Register an operator.

    Weights and biases enter an operator as they are stored, usually in
    float32, and their gradients leave in that dtype; its first tensor gives
    the dtype to compute in. A tensor that is not needed is returned with no
    elements.

    Args:
        name: Name within the namespace.
        schemas: Its file's schemas by name.
        fallback: Computes it by PyTorch's kernels.
        fake: Returns uninitialised results, given the same arguments.
        macs: Returns its multiply-adds, given shapes in place of tensors;
            None for an operator without products.
        gradient: What saves tensors for the backward pass and what returns a
            gradient, or None, for each argument, as for
            :func:`torch.library.register_autograd`.

    Returns:
        The function to call.
    """
    qualified = f'{NAMESPACE}::{name}'
    tags = (torch.Tag.pt2_compliant_tag,)
    _LIBRARY.define(name + schemas[name], tags=tags)
    _LIBRARY.impl(
        name, _without_autocast(fallback), 'CompositeExplicitAutograd'
    )
    torch.library.register_fake(qualified, fake, lib=_LIBRARY)
    if gradient is not None:
        save, backward = gradient
        torch.library.register_autograd(
            qualified, backward, setup_context=save, lib=_LIBRARY
        )
    packet = getattr(getattr(torch.ops, NAMESPACE), name)
    SCHEMAS[name], FALLBACKS[name] = schemas[name], fallback
    if macs is not None:
        MACS[name] = macs
        # FlopCounterMode counts two operations for a multiply-add
        register_flop_formula(packet)(
            lambda *args, **kwargs: 2 * macs(*args, **kwargs)
        )
    return packet.default


def _without_autocast(kernel: Callable) -> Callable:
    # The caller chose the dtypes; autocast would cast inside once more.
    @wraps(kernel)
    def call(*args):
        with without_autocast(next(a for a in args if isinstance(a, Tensor))):
            return kernel(*args)

    return call


def refuse_second_derivative(name: str) -> None:
    """Raise in a backward pass that is itself differentiated.

    Args:
        name: Name of the operator.

    Raises:
        NotImplementedError: If gradients are recorded.
    """
    if torch.is_grad_enabled():
        raise NotImplementedError(
            f'{NAMESPACE}::{name} has no second derivative; '
            'HALVIT_MM_OPS=plain computes by operators that have'
        )


def none_if_empty(gradients, needs) -> Tuple[Optional[Tensor], ...]:
    """Put None in the place of each gradient that is not needed."""
    return tuple(g if need else None for g, need in zip(gradients, needs))


def like(x: Tensor, *shape: int, dtype: Optional[torch.dtype] = None):
    """Make an uninitialised tensor, contiguous even if ``x`` is not.

    Args:
        x: Gives device, and shape and dtype where these are not given.
        shape: Sizes of the result.
        dtype: Dtype of the result.

    Returns:
        The tensor.
    """
    return x.new_empty(shape or x.shape, dtype=dtype or x.dtype)


def like_if(need: bool, x: Tensor, *shape: int, dtype=None) -> Tensor:
    """Return :func:`like`, or the empty tensor if there is no need of it."""
    return like(x, *shape, dtype=dtype) if need else x.new_empty(0)
