"""The operators as the layers call them.

Each has the arguments of its definition in :mod:`.reference` and checks them;
the input is cast here, once, to autocast's dtype. During ``torch.export`` and
tracing and, by default, inside ``torch.compile`` the definitions are called.

Shapes: B batch, T tokens, D width, F hidden width of the FFN.
"""

from typing import Optional, Tuple

import torch
from torch import Tensor

from . import library, reference
from .checks import check_gelu, check_input, check_parameters, compute_dtype
from .routing import uses_definition
from .schemas import NAMESPACE
from .tuning import gelu_in_product

_ops = getattr(torch.ops, NAMESPACE)
assert library.LIBRARY is not None  # importing it defines the operators


def _needs_gradient(*tensors: Optional[Tensor]) -> bool:
    return torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in tensors
    )


def layer_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    dtype: Optional[torch.dtype] = None,
) -> Tensor:
    """Compute a layer norm by :func:`add_layer_norm`, without a sum.

    Args:
        x: (B, T, D).
        weight: (D,).
        bias: (D,).
        eps: Added to the variance.
        dtype: Dtype of the norm; by default autocast's, or that of ``x``.

    Returns:
        (B, T, D).
    """
    return add_layer_norm(x, None, weight, bias, eps, dtype=dtype)[1]


def add_layer_norm(
    residual: Tensor,
    delta: Optional[Tensor],
    weight: Tensor,
    bias: Tensor,
    eps: float,
    row_scale: Optional[Tensor] = None,
    dtype: Optional[torch.dtype] = None,
) -> Tuple[Tensor, Tensor]:
    """Compute a residual sum and its layer norm in one pass.

    Args:
        residual, delta, weight, bias, eps, row_scale: As in the definition,
            :func:`.reference.add_layer_norm`.
        dtype: Dtype of the norm; by default autocast's, or the residual's.

    Returns:
        The sum in the dtype of ``residual`` and its norm, each (B, T, D).

    Raises:
        ValueError: If shapes, devices or dtypes do not fit.
    """
    op, D = 'add_layer_norm', weight.shape[0]
    check_input(op, 'residual', residual, D)
    expected = {'weight': (weight, (D,)), 'bias': (bias, (D,))}
    check_parameters(op, residual, expected, may_cast=True)
    if delta is not None and delta.shape != residual.shape:
        raise ValueError(
            f'{op}: delta has the shape {tuple(delta.shape)}, the residual '
            f'{tuple(residual.shape)}'
        )
    if row_scale is not None and row_scale.shape != residual.shape[:1]:
        raise ValueError(
            f'{op}: row_scale has the shape {tuple(row_scale.shape)}, '
            f'expected ({len(residual)},), one factor per sample'
        )
    if row_scale is not None and row_scale.requires_grad:
        raise ValueError(f'{op}: row_scale has no gradient, detach it')
    if uses_definition(residual, D):
        total, y = reference.add_layer_norm(
            residual, delta, weight, bias, eps, row_scale
        )
        return total, y if dtype is None else y.to(dtype)
    dtype = dtype or compute_dtype(residual)
    total, y, _, _ = _ops.add_layer_norm(
        residual, delta, row_scale, weight, bias, eps, dtype
    )
    return residual if delta is None else total, y


def tied_qkv(
    x: Tensor,
    wq: Tensor,
    wkv: Tensor,
    bq: Optional[Tensor] = None,
    bk: Optional[Tensor] = None,
    bv: Optional[Tensor] = None,
) -> Tuple[Tensor, Tensor, Tensor, Optional[Tensor]]:
    """Compute query, key and value from two matrices.

    Args:
        x, wq, wkv, bq, bk, bv: As in the definition,
            :func:`.reference.tied_qkv`.

    Returns:
        ``q, k, v``, each (B, T, D), and the cast matrices, which
        :func:`tied_out` reads instead of casting ``wq`` again; None or empty
        where nothing was cast.

    Raises:
        ValueError: If shapes, devices or dtypes do not fit.
    """
    op, D = 'tied_qkv', wq.shape[0]
    check_input(op, 'x', x, D)
    expected = {'wq': (wq, (D, D)), 'wkv': (wkv, (D, D))}
    for name, bias in (('bq', bq), ('bk', bk), ('bv', bv)):
        expected[name] = (bias, (D,))
    check_parameters(op, x, expected)
    if uses_definition(x, D):
        return *reference.tied_qkv(x, wq, wkv, bq, bk, bv), None
    return _ops.tied_qkv(x.to(compute_dtype(x)), wq, wkv, bq, bk, bv)


def tied_out(
    o: Tensor,
    wq: Tensor,
    bias: Optional[Tensor] = None,
    packed: Optional[Tensor] = None,
) -> Tensor:
    """Compute the output projection of attention.

    Args:
        o, wq, bias: As in the definition, :func:`.reference.tied_out`.
        packed: Last result of :func:`tied_qkv`. It has no gradient: all of it
            goes to ``wq``.

    Returns:
        (B, T, D).

    Raises:
        ValueError: If shapes, devices or dtypes do not fit.
    """
    op, D = 'tied_out', wq.shape[0]
    check_input(op, 'o', o, D)
    expected = {'wq': (wq, (D, D)), 'bias': (bias, (D,))}
    check_parameters(op, o, expected)
    if uses_definition(o, D):
        return reference.tied_out(o, wq, bias)
    o = o.to(compute_dtype(o))
    if packed is None or packed.dtype != o.dtype:
        packed = o.new_empty(0)
    return _ops.tied_out(o, wq, packed, bias)


def tied_ffn(
    x: Tensor,
    w: Tensor,
    b1: Optional[Tensor] = None,
    b2: Optional[Tensor] = None,
    approximate: str = 'none',
    signed: bool = False,
) -> Tensor:
    """Compute a feed-forward network of one matrix.

    Args:
        x, w, b1, b2, approximate, signed: As in the definition,
            :func:`.reference.tied_ffn`.

    Returns:
        (B, T, D).

    Raises:
        ValueError: If shapes, devices or dtypes do not fit, or an odd number
            of hidden units is to be signed.
    """
    op, (F, D) = 'tied_ffn', w.shape
    check_input(op, 'x', x, D)
    expected = {'w': (w, (F, D)), 'b1': (b1, (F,)), 'b2': (b2, (D,))}
    check_parameters(op, x, expected)
    check_gelu(approximate, signed, F)
    if uses_definition(x, D, F):
        return reference.tied_ffn(x, w, b1, b2, approximate, signed)
    x = x.to(compute_dtype(x))
    impl = gelu_in_product(x, w, approximate, signed)
    args = (x, w, b1, b2, signed, approximate, impl)
    if _needs_gradient(*args[:4]):
        return _ops.tied_ffn(*args)[0]
    return _ops.tied_ffn_inference(*args)
