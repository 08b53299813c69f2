"""The fallback of the tied projections of attention.

Shapes: T tokens in all, D width.
"""

from typing import List, Optional, Tuple

import torch
from torch import Tensor

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


def pack_qkv(wq: Tensor, wkv: Tensor, dtype: torch.dtype) -> Tensor:
    """Pack the matrices for inference, see :data:`..schemas.SCHEMAS`."""
    return pack(dtype, wq, wkv, wkv.t())


def tied_qkv(
    x: Tensor,
    wq: Tensor,
    wkv: Tensor,
    bq: Optional[Tensor],
    bk: Optional[Tensor],
    bv: Optional[Tensor],
) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute query, key and value, see :data:`..schemas.SCHEMAS`."""
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


def tied_qkv_backward(
    dq: Optional[Tensor],
    dk: Optional[Tensor],
    dv: Optional[Tensor],
    x: Tensor,
    wq: Tensor,
    wkv: Tensor,
    packed: Tensor,
    needs: List[bool],
) -> Tuple[Tensor, ...]:
    """Compute the gradients, see :data:`..schemas.SCHEMAS`."""
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
        dx = total.to(x.dtype).view(x.shape)
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


def tied_out(
    o: Tensor, wq: Tensor, packed: Tensor, bias: Optional[Tensor]
) -> Tensor:
    """Compute the output projection, see :data:`..schemas.SCHEMAS`."""
    dtype = product_dtype(o)
    matrix = _query_matrix(o, wq, packed, dtype)
    y = linear(rows_of(o, dtype), matrix.t(), bias)
    return y.to(o.dtype).view(o.shape)


def tied_out_backward(
    g: Tensor, o: Tensor, wq: Tensor, packed: Tensor, needs: List[bool]
) -> Tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients, see :data:`..schemas.SCHEMAS`."""
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


def _query_matrix(
    o: Tensor, wq: Tensor, packed: Tensor, dtype: torch.dtype
) -> Tensor:
    if packed.numel():
        return packed[: len(wq)].to(dtype)
    return wq.to(o.dtype).to(dtype)
