"""Attention's output projection, by the transpose of the query matrix.

HaLViT (Koyun and Toereyin, 2024), Sec. 3.1.

Shapes: B batch, T tokens (in an operator all leading dimensions, flattened),
D width.
"""

from math import prod
from typing import Optional, Sequence

import torch.nn.functional as F
from torch import Tensor

from .checks import check_input, check_parameters, compute_dtype
from .choice import uses_definition
from .products import (
    column_sum,
    empty,
    linear,
    product_dtype,
    rows_of,
    weight_gradient,
)
from .register import (
    like,
    like_if,
    none_if_empty,
    refuse_second_derivative,
    register,
)

SCHEMAS = {
    # o (..., D); packed: of tied_qkv, or empty -> y (..., D)
    'tied_out': (
        '(Tensor o, Tensor wq, Tensor packed, Tensor? bias) -> Tensor'
    ),
    # needs: o, wq, bias -> their gradients
    'tied_out_backward': (
        '(Tensor g, Tensor o, Tensor wq, Tensor packed, bool[] needs) '
        '-> (Tensor, Tensor, Tensor)'
    ),
}


def definition(o: Tensor, wq: Tensor, bias: Optional[Tensor] = None) -> Tensor:
    r"""Compute attention's output projection, :math:`W_q^T o + b_o`.

    Args:
        o: (B, T, D), the heads' outputs side by side.
        wq: (D, D), the query matrix, tied: weight (out, in) of the query.
        bias: (D,) or None.

    Returns:
        (B, T, D).
    """
    return F.linear(o, wq.t(), bias)


def tied_out(
    o: Tensor,
    wq: Tensor,
    bias: Optional[Tensor] = None,
    packed: Optional[Tensor] = None,
) -> Tensor:
    """Compute attention's output projection by the operator.

    Args:
        o, wq, bias: As for :func:`definition`.
        packed: Last result of :func:`.tied_qkv`. It has no gradient: all of
            it goes to ``wq``.

    Returns:
        (B, T, D).

    Raises:
        ValueError: If shapes, devices or dtypes do not fit.
    """
    op, D = 'tied_out', wq.shape[0]
    check_input(op, 'o', o, D)
    check_parameters(op, o, (('wq', wq, (D, D)), ('bias', bias, (D,))))
    if uses_definition(o, D):
        return definition(o, wq, bias)
    o = o.to(compute_dtype(o))
    if packed is None or packed.dtype != o.dtype:
        packed = o.new_empty(0)
    return _tied_out(o, wq, packed, bias)


def _query_matrix(o, wq, packed, dtype) -> Tensor:
    if packed.numel():
        return packed[: len(wq)].to(dtype)
    return wq.to(o.dtype).to(dtype)


def _forward(o, wq, packed, bias):
    dtype = product_dtype(o)
    matrix = _query_matrix(o, wq, packed, dtype)
    y = linear(rows_of(o, dtype), matrix.t(), bias)
    return y.to(o.dtype).view(o.shape)


def _backward(g, o, wq, packed, needs):
    dtype = product_dtype(o)
    grad = rows_of(g, dtype)
    do, dwq, dbias = empty(o), empty(wq), empty(wq)
    if needs[0]:
        matrix = _query_matrix(o, wq, packed, dtype)
        do = (grad @ matrix.t()).to(o.dtype).view(o.shape)
    if needs[1]:
        dwq = weight_gradient(wq, (rows_of(o, dtype), grad))
    if needs[2]:
        dbias = column_sum(grad, wq)
    return do, dwq, dbias


def _fake_backward(g, o, wq, packed, needs):
    return (
        like_if(needs[0], o),
        like_if(needs[1], wq),
        like_if(needs[2], wq, wq.shape[0]),
    )


def _save(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:3])


def _gradients(ctx, g):
    refuse_second_derivative('tied_out')
    needs = [ctx.needs_input_grad[i] for i in (0, 1, 3)]
    gradients = _tied_out_backward(g, *ctx.saved_tensors, needs)
    do, dwq, dbias = none_if_empty(gradients, needs)
    return do, dwq, None, dbias


def _macs(o: Sequence[int], *_, **__) -> int:
    return prod(o) * o[-1]


def _macs_backward(g, o: Sequence[int], wq, packed, needs, **__) -> int:
    return (bool(needs[0]) + bool(needs[1])) * _macs(o)


_tied_out = register(
    'tied_out',
    SCHEMAS,
    _forward,
    lambda o, *_: like(o),
    _macs,
    (_save, _gradients),
)
_tied_out_backward = register(
    'tied_out_backward', SCHEMAS, _backward, _fake_backward, _macs_backward
)
