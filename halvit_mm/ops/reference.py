"""The tied projections in plain PyTorch: their definition.

HaLViT (Koyun and Toereyin, 2024), Sec. 3.1: one matrix serves as ``W`` and,
inside the same layer, as its transpose.

Shapes: B batch, T tokens, D width, F hidden width of the FFN (4 D). A linear
map follows ``torch.nn.functional.linear``: weight (out, in). ``W.t()`` is a
view, both uses read the same parameter, and autograd adds both gradients.
"""

from typing import Optional, Tuple

import torch.nn.functional as F
from torch import Tensor

__all__ = ['tied_ffn', 'tied_out', 'tied_qkv']


def tied_qkv(
    x: Tensor,
    wq: Tensor,
    wkv: Tensor,
    bq: Optional[Tensor] = None,
    bk: Optional[Tensor] = None,
    bv: Optional[Tensor] = None,
) -> Tuple[Tensor, Tensor, Tensor]:
    r"""Query, key and value from two matrices (Sec. 3.1, attention).

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
    r"""Output projection of attention: :math:`W_q^T o + b_o` (Sec. 3.1).

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
) -> Tensor:
    r"""Feed-forward network of one matrix (Eq. 4).

    .. math:: W^T\, \mathrm{gelu}(W x + b_1) + b_2

    Args:
        x: (B, T, D).
        w: (F, D), tied.
        b1: (F,) or None.
        b2: (D,) or None.
        approximate: GELU's form, ``'none'`` (erf) or ``'tanh'``.

    Returns:
        (B, T, D).
    """
    hidden = F.gelu(F.linear(x, w, b1), approximate=approximate)
    return F.linear(hidden, w.t(), b2)
