"""The feed-forward network of one matrix.

HaLViT (Koyun and Toereyin, 2024), Eq. 4. With u the hidden units before the
GELU, h after it and g the output's gradient, the matrix receives
:math:`dW = du^T x + h^T g`. The backward pass computes h again from u, so that
only x and u are kept.

Shapes: B batch, T tokens (in an operator all leading dimensions, flattened),
D width, F hidden width (4 D).
"""

from math import prod
from typing import List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import check_gelu, check_input, check_parameters, compute_dtype
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
    # x (..., D); w (F, D); signed: the second half of the hidden units counts
    # negative -> y (..., D), u (..., F) before the GELU, and w in x's dtype
    # (empty where it has that dtype already)
    'tied_ffn': (
        '(Tensor x, Tensor w, Tensor? b1, Tensor? b2, bool signed, '
        'str approximate) -> (Tensor, Tensor, Tensor)'
    ),
    # needs: x, w, b1, b2 -> their gradients
    'tied_ffn_backward': (
        '(Tensor g, Tensor x, Tensor u, Tensor w, Tensor w_cast, '
        'bool signed, str approximate, bool[] needs) '
        '-> (Tensor, Tensor, Tensor, Tensor)'
    ),
    # the same as tied_ffn, keeping nothing -> y (..., D)
    'tied_ffn_inference': (
        '(Tensor x, Tensor w, Tensor? b1, Tensor? b2, bool signed, '
        'str approximate) -> Tensor'
    ),
}


def definition(
    x: Tensor,
    w: Tensor,
    b1: Optional[Tensor] = None,
    b2: Optional[Tensor] = None,
    approximate: str = 'none',
    signed: bool = False,
) -> Tensor:
    r"""Compute a feed-forward network of one matrix (Eq. 4).

    .. math:: W^T\, (s * \mathrm{gelu}(W x + b_1)) + b_2

    Without ``signed``, s = 1 as in the paper. Signed tying (ours) has s = 1
    for the first half of the hidden units and -1 for the second: the linear
    part of the paper's layer is the positive semi-definite
    :math:`W^T W / 2`, so that it must copy its input; with signs it starts
    near zero.

    Args:
        x: (B, T, D).
        w: (F, D), tied.
        b1: (F,) or None.
        b2: (D,) or None.
        approximate: GELU's form, ``'none'`` (erf) or ``'tanh'``.
        signed: Whether s is -1 for the second half of the hidden units.

    Returns:
        (B, T, D).
    """
    hidden = F.gelu(F.linear(x, w, b1), approximate=approximate)
    if signed:
        positive, negative = hidden.chunk(2, dim=-1)
        hidden = torch.cat((positive, -negative), dim=-1)
    return F.linear(hidden, w.t(), b2)


def tied_ffn(
    x: Tensor,
    w: Tensor,
    b1: Optional[Tensor] = None,
    b2: Optional[Tensor] = None,
    approximate: str = 'none',
    signed: bool = False,
) -> Tensor:
    """Compute a feed-forward network of one matrix by the operator.

    Args:
        x, w, b1, b2, approximate, signed: As for :func:`definition`.

    Returns:
        (B, T, D).

    Raises:
        ValueError: If shapes, devices or dtypes do not fit, or an odd number
            of hidden units is to be signed.
    """
    op, (F, D) = 'tied_ffn', w.shape
    check_input(op, 'x', x, D)
    check_parameters(
        op, x, (('w', w, (F, D)), ('b1', b1, (F,)), ('b2', b2, (D,)))
    )
    check_gelu(approximate, signed, F)
    if uses_definition(x, D, F):
        return definition(x, w, b1, b2, approximate, signed)
    x = x.to(compute_dtype(x))
    args = (x, w, b1, b2, signed, approximate)
    if torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in args[:4]
    ):
        return _tied_ffn(*args)[0]
    return _tied_ffn_inference(*args)


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


def _forward(x, w, b1, b2, signed, approximate):
    w_cast = pack(x.dtype, w) if x.dtype != w.dtype else empty(x)
    dtype = product_dtype(x)
    (matrix,) = unpack(w_cast, dtype, w)
    u = linear(rows_of(x, dtype), matrix, b1)
    kept = u.to(x.dtype).view(*x.shape[:-1], len(w))
    # what is kept was rounded: both passes see the same hidden units
    hidden = F.gelu(rows_of(kept, dtype), approximate=approximate)
    y = _second_product(hidden, matrix, b2, signed)
    return y.to(x.dtype).view(x.shape), kept, w_cast


def _inference(x, w, b1, b2, signed, approximate):
    dtype = product_dtype(x)
    matrix = w.to(x.dtype).to(dtype)
    hidden = linear(rows_of(x, dtype), matrix, b1)
    torch.ops.aten.gelu_(hidden, approximate=approximate)
    y = _second_product(hidden, matrix, b2, signed)
    return y.to(x.dtype).view(x.shape)


def _backward(g, x, u, w, w_cast, signed, approximate, needs):
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
    du = grad.new_empty(len(grad), len(matrix))
    for part, sign in parts:
        # beta = 0: what stands in the new tensor does not count
        du[:, part].addmm_(grad, matrix[part].t(), beta=0, alpha=sign)
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


def _fake(x, w, b1, b2, signed, approximate):
    w_cast = like_if(x.dtype != w.dtype, x, *w.shape)
    return like(x), like(x, *x.shape[:-1], w.shape[0]), w_cast


def _fake_backward(g, x, u, w, w_cast, signed, approximate, needs):
    return (
        like_if(needs[0], x),
        like_if(needs[1], w),
        like_if(needs[2], w, w.shape[0]),
        like_if(needs[3], w, w.shape[1]),
    )


def _save(ctx, inputs, output):
    x, w, _, _, *ctx.options = inputs
    _, u, w_cast = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(u, w_cast)
    ctx.save_for_backward(x, u, w, w_cast)


def _gradients(ctx, g, *_):
    refuse_second_derivative('tied_ffn')
    needs = ctx.needs_input_grad[:4]
    if g is None:
        return (None,) * 6
    gradients = _tied_ffn_backward(
        g, *ctx.saved_tensors, *ctx.options, list(needs)
    )
    return *none_if_empty(gradients, needs), None, None


def _macs(x: Sequence[int], w: Sequence[int], *_, **__) -> int:
    return 2 * prod(x) * w[0]


def _macs_backward(
    g, x: Sequence[int], u, w, w_cast, signed, approximate, needs, **__
) -> int:
    du = bool(needs[0] or needs[1] or needs[2])
    products = du + bool(needs[0]) + 2 * bool(needs[1])
    return products * prod(x) * w[0]


_tied_ffn = register(
    'tied_ffn', SCHEMAS, _forward, _fake, _macs, (_save, _gradients)
)
_tied_ffn_backward = register(
    'tied_ffn_backward', SCHEMAS, _backward, _fake_backward, _macs_backward
)
_tied_ffn_inference = register(
    'tied_ffn_inference', SCHEMAS, _inference, lambda x, *_: like(x), _macs
)
