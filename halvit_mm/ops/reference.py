"""The definitions of the operators, in plain PyTorch.

HaLViT (Koyun and Toereyin, 2024), Sec. 3.1: one matrix serves as ``W`` and,
inside the same layer, as its transpose.

Shapes: B batch, T tokens, D width, F hidden width of the FFN (4 D). A linear
map follows ``torch.nn.functional.linear``: weight (out, in). ``W.t()`` is a
view, both uses read the same parameter, and autograd adds both gradients.
"""

from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor


def add_layer_norm(
    residual: Tensor,
    delta: Optional[Tensor],
    weight: Tensor,
    bias: Tensor,
    eps: float,
    row_scale: Optional[Tensor] = None,
) -> Tuple[Tensor, Tensor]:
    r"""Compute a residual sum and its layer norm.

    .. math:: r' = r + s \delta,\qquad y = LN(r')

    Args:
        residual: (B, T, D).
        delta: (B, T, D), or None for a norm without a sum.
        weight: (D,).
        bias: (D,).
        eps: Added to the variance.
        row_scale: (B,), one factor of ``delta`` per sample: stochastic depth.

    Returns:
        ``r'`` and ``y``, each (B, T, D).
    """
    if delta is not None:
        if row_scale is not None:
            delta = delta * row_scale.to(delta.dtype).view(
                -1, *[1] * (delta.dim() - 1)
            )
        residual = (residual + delta).to(residual.dtype)
    y = F.layer_norm(residual, weight.shape, weight, bias, eps)
    return residual, y


def tied_qkv(
    x: Tensor,
    wq: Tensor,
    wkv: Tensor,
    bq: Optional[Tensor] = None,
    bk: Optional[Tensor] = None,
    bv: Optional[Tensor] = None,
) -> Tuple[Tensor, Tensor, Tensor]:
    r"""Compute query, key and value from two matrices (Sec. 3.1).

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


def tied_out(o: Tensor, wq: Tensor, bias: Optional[Tensor] = None) -> Tensor:
    r"""Compute attention's output projection, :math:`W_q^T o + b_o`.

    Args:
        o: (B, T, D), the heads' outputs side by side.
        wq: (D, D), the query matrix, tied.
        bias: (D,) or None.

    Returns:
        (B, T, D).
    """
    return F.linear(o, wq.t(), bias)


def tied_ffn(
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
