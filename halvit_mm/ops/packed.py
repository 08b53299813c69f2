"""Query, key and value from packed weights, for inference.

Shapes: B batch, T tokens, D width.
"""

from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import check_parameters, without_autocast
from .choice import uses_definition
from .products import pack, product_dtype
from .register import like, register

SCHEMAS = {
    # wq, wkv (D, D) -> [wq; wkv; wkv^T] (3 D, D) in `dtype`, for inference
    'pack_qkv': '(Tensor wq, Tensor wkv, ScalarType dtype) -> Tensor',
}
_graphs_version = 0


def invalidate_graphs() -> None:
    """Announce that weights were packed or unpacked, to recorded graphs."""
    global _graphs_version
    _graphs_version += 1


def graphs_version() -> int:
    """Return how often weights were packed or unpacked in this process.

    A CUDA graph holds addresses of packed weights; it is out of date when
    this number has changed since it was recorded.
    """
    return _graphs_version


def pack_qkv(wq: Tensor, wkv: Tensor, dtype: torch.dtype) -> Tensor:
    """Cast both matrices and the transpose of the second into one tensor.

    Args:
        wq: (D, D).
        wkv: (D, D).
        dtype: Dtype of the result.

    Returns:
        (3 D, D), without gradient.

    Raises:
        ValueError: If the matrices differ in shape, device or dtype.
    """
    shape = (wq.shape[1], wq.shape[1])
    expected = (('wq', wq, shape), ('wkv', wkv, shape))
    check_parameters('pack_qkv', wq, expected)
    if uses_definition(wq, wq.shape[1]):
        return torch.cat((wq, wkv, wkv.t())).detach().to(dtype)
    return _pack_qkv(wq.detach(), wkv.detach(), dtype)


def for_products(packed: Tensor) -> Tensor:
    """Return packed weights in the dtype in which products with them run.

    Args:
        packed: Weights that are rounded to a dtype.

    Returns:
        The same numbers, in float32 on a CPU that multiplies in that dtype
        element by element, so that no product has to cast them; else
        ``packed``.
    """
    return packed.to(product_dtype(packed))


def packed_qkv(
    x: Tensor,
    packed: Tensor,
    bias: Optional[Tensor] = None,
    dtype: Optional[torch.dtype] = None,
) -> Tuple[Tensor, Tensor, Tensor]:
    """Compute query, key and value by one product.

    Args:
        x: (B, T, D).
        packed: (3 D, D), result of :func:`pack_qkv`, also as
            :func:`for_products` leaves it.
        bias: (3 D,) or None, in the dtype of ``packed``.
        dtype: Dtype to which ``x`` and the results are rounded; by default
            that of ``packed``.

    Returns:
        ``q, k, v``, each (B, T, D): views of one tensor, in ``dtype``.
    """
    dtype = dtype or packed.dtype
    with without_autocast(x):
        rows = x.to(dtype).to(packed.dtype)
        qkv = F.linear(rows, packed, bias).to(dtype)
    return qkv.chunk(3, dim=-1)


def _fake(wq, wkv, dtype):
    return like(wq, 3 * wq.shape[0], wq.shape[1], dtype=dtype)


_pack_qkv = register(
    'pack_qkv',
    SCHEMAS,
    lambda wq, wkv, dtype: pack(dtype, wq, wkv, wkv.t()),
    _fake,
)
