"""Query, key and value from weights that were packed before, for inference.

Shapes: B batch, T tokens, D width.
"""

from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import check_parameters, without_autocast
from .fallback.products import product_dtype
from .routing import uses_definition
from .schemas import NAMESPACE

__all__ = ['invalidate_graphs', 'pack_qkv', 'packed_qkv', 'graphs_version']

_ops = getattr(torch.ops, NAMESPACE)
_graphs_version = 0


def invalidate_graphs() -> None:
    """Say that packed weights were made or dropped."""
    global _graphs_version
    _graphs_version += 1


def graphs_version() -> int:
    """How often packed weights were made or dropped in this process.

    Whoever keeps addresses of packed weights compares it.
    """
    return _graphs_version


def pack_qkv(wq: Tensor, wkv: Tensor, dtype: torch.dtype) -> Tensor:
    """Both matrices and the transpose of the second, cast.

    Args:
        wq: (D, D).
        wkv: (D, D).
        dtype: Of the copy.

    Returns:
        (3 D, D).

    Raises:
        ValueError: If the matrices do not fit each other.
    """
    shape = (wq.shape[1], wq.shape[1])
    expected = {'wq': (wq, shape), 'wkv': (wkv, shape)}
    check_parameters('pack_qkv', wq, expected)
    if uses_definition(wq, wq.shape[1]):
        return torch.cat((wq, wkv, wkv.t())).detach().to(dtype)
    return _ops.pack_qkv(wq.detach(), wkv.detach(), dtype)


def packed_qkv(
    x: Tensor, packed: Tensor, bias: Optional[Tensor] = None
) -> Tuple[Tensor, Tensor, Tensor]:
    """Query, key and value from one product.

    Args:
        x: (B, T, D).
        packed: (3 D, D), of :func:`pack_qkv`.
        bias: (3 D,) or None.

    Returns:
        ``q, k, v``, each (B, T, D): views of one tensor, in the dtype of
        ``packed``.
    """
    dtype = product_dtype(packed)
    bias = None if bias is None else bias.to(dtype)
    # the values are those of packed's dtype, whatever they are multiplied in
    rows = x.to(packed.dtype).to(dtype)
    with without_autocast(x):
        qkv = F.linear(rows, packed.to(dtype), bias).to(packed.dtype)
    return qkv.chunk(3, dim=-1)
