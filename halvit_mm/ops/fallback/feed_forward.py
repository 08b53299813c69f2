"""The fallback of the tied feed-forward network.

Shapes: T tokens in all, D width, F hidden width.
"""

from typing import List, Optional, Tuple

import torch
import torch.nn.functional as F
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


def _parts(hidden: int, signed: bool) -> List[Tuple[slice, float]]:
    """Split the hidden units by sign; a product takes the sign as a factor."""
    if not signed:
        return [(slice(None), 1.0)]
    half = hidden // 2
    return [(slice(half), 1.0), (slice(half, None), -1.0)]


def _second_product(h, w, b2, signed: bool) -> Tensor:
    y = None if b2 is None else b2.to(h.dtype)
    for part, sign in _parts(len(w), signed):
        h_part, w_part = h[:, part], w[part]
        if y is not None and y.dim() == 1:
            y = torch.addmm(y, h_part, w_part, alpha=sign)
        else:
            y = accumulate(y, h_part, w_part, sign)
    return y


def tied_ffn(
    x: Tensor,
    w: Tensor,
    b1: Optional[Tensor],
    b2: Optional[Tensor],
    signed: bool,
    approximate: str,
    impl: int,
) -> Tuple[Tensor, Tensor, Tensor]:
    """Compute the network, see :data:`..schemas.SCHEMAS`.

    ``impl`` is not used: there is one implementation here.
    """
    w_cast = pack(x.dtype, w) if x.dtype != w.dtype else empty(x)
    dtype = product_dtype(x)
    (matrix,) = unpack(w_cast, dtype, w)
    u = linear(rows_of(x, dtype), matrix, b1)
    kept = u.to(x.dtype).view(*x.shape[:-1], len(w))
    # what is kept was rounded: both passes see the same hidden units
    hidden = F.gelu(rows_of(kept, dtype), approximate=approximate)
    y = _second_product(hidden, matrix, b2, signed)
    return y.to(x.dtype).view(x.shape), kept, w_cast


def tied_ffn_inference(
    x: Tensor,
    w: Tensor,
    b1: Optional[Tensor],
    b2: Optional[Tensor],
    signed: bool,
    approximate: str,
    impl: int,
) -> Tensor:
    """Compute the network, saving nothing, see :data:`..schemas.SCHEMAS`."""
    dtype = product_dtype(x)
    matrix = w.to(x.dtype).to(dtype)
    hidden = linear(rows_of(x, dtype), matrix, b1)
    torch.ops.aten.gelu_(hidden, approximate=approximate)
    y = _second_product(hidden, matrix, b2, signed)
    return y.to(x.dtype).view(x.shape)


def tied_ffn_backward(
    g: Tensor,
    x: Tensor,
    u: Tensor,
    w: Tensor,
    w_cast: Tensor,
    signed: bool,
    approximate: str,
    impl: int,
    needs: List[bool],
) -> Tuple[Tensor, ...]:
    """Compute the gradients, see :data:`..schemas.SCHEMAS`."""
    dtype = product_dtype(x)
    parts = _parts(len(w), signed)
    grad = rows_of(g, dtype)
    dx, dw, db1, db2 = empty(x), empty(w), empty(w), empty(w)
    if needs[3]:
        db2 = column_sum(grad, w)
    if not (needs[0] or needs[1] or needs[2]):
        return dx, dw, db1, db2
    (matrix,) = unpack(w_cast, dtype, w)
    u = rows_of(u, dtype)
    du = _hidden_gradient(grad, matrix, parts)
    torch.ops.aten.gelu_backward.grad_input(
        du, u, approximate=approximate, grad_input=du
    )
    if needs[0]:
        dx = (du @ matrix).to(x.dtype).view(x.shape)
    if needs[1]:
        hidden = F.gelu(u, approximate=approximate)
        dw = weight_gradient(w, (du, rows_of(x, dtype)))
        for part, sign in parts:
            accumulate(dw[part], hidden[:, part].t(), grad, sign)
    if needs[2]:
        db1 = column_sum(du, w)
    return dx, dw, db1, db2


def _hidden_gradient(grad: Tensor, matrix: Tensor, parts) -> Tensor:
    """Compute the gradient of the hidden units.

    Args:
        grad: (T, D), gradient of the output.
        matrix: (F, D).
        parts: Of :func:`_parts`.

    Returns:
        (T, F).
    """
    dh = grad.new_empty(len(grad), len(matrix))
    for part, sign in parts:
        # beta = 0: what stands in the new tensor does not count
        dh[:, part].addmm_(grad, matrix[part].t(), beta=0, alpha=sign)
    return dh
