"""Query, key and value of attention, from two matrices.

HaLViT (Koyun and Toereyin, 2024), Sec. 3.1: one matrix serves as ``W`` and,
inside the same layer, as its transpose. ``W.t()`` is a view, both uses read
the same parameter, which receives the sum of both gradients:
:math:`dW_{kv} = dk^T x + x^T dv`.

Shapes: B batch, T tokens (in an operator all leading dimensions, flattened),
D width. A matrix follows ``torch.nn.functional.linear``: (out, in).
"""

from math import prod
from typing import Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import check_input, check_parameters, compute_dtype
from .choice import uses_definition
from .products import (
    accumulate,
    column_sum,
    empty,
    linear,
    pack,
    product_dtype,
    rows_of,
    unpack,
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
    # x (..., D); wq, wkv (D, D) -> q, k, v (..., D) and packed: [wq; wkv]
    # (2 D, D) in x's dtype, empty where the weights have that dtype already
    'tied_qkv': (
        '(Tensor x, Tensor wq, Tensor wkv, Tensor? bq, Tensor? bk, '
        'Tensor? bv) -> (Tensor, Tensor, Tensor, Tensor)'
    ),
    # needs: x, wq, wkv, bq, bk, bv -> their gradients
    'tied_qkv_backward': (
        '(Tensor? dq, Tensor? dk, Tensor? dv, Tensor x, Tensor wq, '
        'Tensor wkv, Tensor packed, bool[] needs) '
        '-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)'
    ),
}


def definition(
    x: Tensor,
    wq: Tensor,
    wkv: Tensor,
    bq: Optional[Tensor] = None,
    bk: Optional[Tensor] = None,
    bv: Optional[Tensor] = None,
) -> Tuple[Tensor, Tensor, Tensor]:
    r"""Compute query, key and value.

    .. math:: q = W_q x + b_q,\quad k = W_{kv} x + b_k,\quad
              v = W_{kv}^T x + b_v

    Args:
        x: (B, T, D).
        wq: (D, D).
        wkv: (D, D), tied.
        bq: (D,) or None.
        bk: (D,) or None.
        bv: (D,) or None.

    Returns:
        ``q, k, v``, each (B, T, D).
    """
    return (
        F.linear(x, wq, bq),
        F.linear(x, wkv, bk),
        F.linear(x, wkv.t(), bv),
    )


def tied_qkv(
    x: Tensor,
    wq: Tensor,
    wkv: Tensor,
    bq: Optional[Tensor] = None,
    bk: Optional[Tensor] = None,
    bv: Optional[Tensor] = None,
) -> Tuple[Tensor, Tensor, Tensor, Optional[Tensor]]:
    """Compute query, key and value by the operator.

    Args:
        x, wq, wkv, bq, bk, bv: As for :func:`definition`.

    Returns:
        ``q, k, v``, each (B, T, D), and the cast matrices, which
        :func:`.tied_out` reads instead of casting ``wq`` again; None or empty
        where nothing was cast.

    Raises:
        ValueError: If shapes, devices or dtypes do not fit.
    """
    op, D = 'tied_qkv', wq.shape[0]
    check_input(op, 'x', x, D)
    square, row = (D, D), (D,)
    biases = (('bq', bq, row), ('bk', bk, row), ('bv', bv, row))
    check_parameters(
        op, x, (('wq', wq, square), ('wkv', wkv, square), *biases)
    )
    if uses_definition(x, D):
        return *definition(x, wq, wkv, bq, bk, bv), None
    return _tied_qkv(x.to(compute_dtype(x)), wq, wkv, bq, bk, bv)


def _forward(x, wq, wkv, bq, bk, bv):
    is_cast = x.dtype != wq.dtype
    packed = pack(x.dtype, wq, wkv) if is_cast else empty(x)
    dtype = product_dtype(x)
    rows = rows_of(x, dtype)
    wq, wkv = unpack(packed, dtype, wq, wkv)
    q, k, v = (
        linear(rows, w, bias).to(x.dtype).view(x.shape)
        for w, bias in ((wq, bq), (wkv, bk), (wkv.t(), bv))
    )
    return q, k, v, packed


def _backward(dq, dk, dv, x, wq, wkv, packed, needs):
    dtype = product_dtype(x)
    gradients = dq, dk, dv = [
        None if d is None else rows_of(d, dtype) for d in (dq, dk, dv)
    ]
    dx, dwq, dwkv = empty(x), empty(wq), empty(wkv)
    if needs[0]:
        mq, mkv = unpack(packed, dtype, wq, wkv)
        total = None
        for d, matrix in zip(gradients, (mq, mkv, mkv.t())):
            if d is not None:
                total = accumulate(total, d, matrix)
        dx = torch.zeros_like(x) if total is None else total.to(x.dtype)
        dx = dx.view(x.shape)
    rows = rows_of(x, dtype) if needs[1] or needs[2] else None
    if needs[1]:
        dwq = weight_gradient(wq, (dq, rows))
    if needs[2]:
        dwkv = weight_gradient(wkv, (dk, rows), (rows, dv))
    d_biases = (
        column_sum(d, wq) if need else empty(wq)
        for d, need in zip(gradients, needs[3:])
    )
    return dx, dwq, dwkv, *d_biases


def _fake(x, wq, wkv, bq, bk, bv):
    D = wq.shape[0]
    packed = like_if(x.dtype != wq.dtype, x, 2 * D, D)
    return like(x), like(x), like(x), packed


def _fake_backward(dq, dk, dv, x, wq, wkv, packed, needs):
    return (
        like_if(needs[0], x),
        like_if(needs[1], wq),
        like_if(needs[2], wkv),
        *(like_if(need, wq, wq.shape[0]) for need in needs[3:]),
    )


def _save(ctx, inputs, output):
    x, wq, wkv, *_ = inputs
    packed = output[3]
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(packed)
    ctx.save_for_backward(x, wq, wkv, packed)


def _gradients(ctx, dq, dk, dv, _):
    refuse_second_derivative('tied_qkv')
    needs = ctx.needs_input_grad
    if dq is None and dk is None and dv is None:
        return (None,) * 6
    gradients = _tied_qkv_backward(dq, dk, dv, *ctx.saved_tensors, list(needs))
    return none_if_empty(gradients, needs)


def _macs(x: Sequence[int], *_, **__) -> int:
    return 3 * prod(x) * x[-1]


def _macs_backward(
    dq, dk, dv, x: Sequence[int], wq, wkv, packed, needs, **__
) -> int:
    weights = [(dq, needs[1]), (dk, needs[2]), (dv, needs[2])]
    products = sum(d is not None and need for d, need in weights)
    if needs[0]:
        products += sum(d is not None for d in (dq, dk, dv))
    return products * prod(x) * x[-1]


_tied_qkv = register(
    'tied_qkv', SCHEMAS, _forward, _fake, _macs, (_save, _gradients)
)
_tied_qkv_backward = register(
    'tied_qkv_backward', SCHEMAS, _backward, _fake_backward, _macs_backward
)
