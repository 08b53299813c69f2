"""Matrix products of the fallback.

Shapes: T tokens, D width.
"""

from functools import cache
from typing import List, Optional, Tuple

import torch
from torch import Tensor


@cache
def _has_native_products(device_type: str, dtype: torch.dtype) -> bool:
    question = {
        torch.bfloat16: '_is_mkldnn_bf16_supported',
        torch.float16: '_is_mkldnn_fp16_supported',
    }.get(dtype)
    if device_type != 'cpu' or question is None:
        return True
    # builds without oneDNN have no such question
    ask = getattr(torch.ops.mkldnn, question, lambda: False)
    return ask()


def product_dtype(x: Tensor) -> torch.dtype:
    """Choose the dtype in which products with ``x`` run.

    PyTorch multiplies 16-bit matrices element by element on CPUs without
    units for them, 6 to 80 times slower than in float32, which holds every
    16-bit number.

    Args:
        x: Any floating-point tensor.

    Returns:
        The dtype of ``x``, or float32.
    """
    native = _has_native_products(x.device.type, x.dtype)
    return x.dtype if native else torch.float32


def empty(like: Tensor) -> Tensor:
    """Return the empty tensor that stands for a result not needed."""
    return like.new_empty(0)


def rows_of(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Flatten the leading dimensions of (..., D) to (T, D), and cast."""
    return x.reshape(-1, x.shape[-1]).to(dtype)


def linear(x: Tensor, w: Tensor, bias: Optional[Tensor]) -> Tensor:
    """Map (T, D) to (T, F) by (F, D); the bias has any dtype."""
    if bias is None:
        return x @ w.t()
    return torch.addmm(bias.to(x.dtype), x, w.t())


def accumulate(
    total: Optional[Tensor], a: Tensor, b: Tensor, alpha: float = 1.0
) -> Tensor:
    """Add ``alpha a b`` to ``total``, in place, or to zero where it is None.

    The result has the dtype of ``total``, without it that of ``a``.
    """
    if total is None:
        total = a @ b
        return total if alpha == 1 else total.mul_(alpha)
    if total.dtype == a.dtype:
        return total.addmm_(a, b, alpha=alpha)
    return total.add_(a @ b, alpha=alpha)


def weight_gradient(
    weight: Tensor, *pairs: Tuple[Optional[Tensor], Optional[Tensor]]
) -> Tensor:
    """Sum ``a^T b`` over pairs.

    Args:
        weight: (M, N), the weight whose gradient this is.
        pairs: (T, M) and (T, N); a pair with a None counts as zero.

    Returns:
        (M, N), in the dtype of the weight.
    """
    total = None
    for a, b in pairs:
        if a is not None and b is not None:
            total = accumulate(total, a.t(), b).to(weight.dtype)
    return torch.zeros_like(weight) if total is None else total


def column_sum(x: Optional[Tensor], like: Tensor) -> Tensor:
    """Sum over the tokens: the gradient of a bias.

    Args:
        x: (T, N), or None for zero.
        like: (N, ...), a tensor of the result's dtype.

    Returns:
        (N,), summed in float32 at least.
    """
    if x is None:
        return like.new_zeros(like.shape[0])
    wide = torch.promote_types(x.dtype, torch.float32)
    return x.sum(0, dtype=wide).to(like.dtype)


def pack(dtype: torch.dtype, *matrices: Tensor) -> Tensor:
    """Cast matrices, (N_i, D), into one tensor, one below the other."""
    rows = [len(matrix) for matrix in matrices]
    shape = (sum(rows), matrices[0].shape[1])
    packed = matrices[0].new_empty(shape, dtype=dtype)
    for block, matrix in zip(packed.split(rows), matrices):
        block.copy_(matrix)
    return packed


def unpack(
    packed: Tensor, dtype: torch.dtype, *matrices: Tensor
) -> List[Tensor]:
    """Return the matrices that :func:`pack` has cast, each in ``dtype``.

    Where nothing was cast, ``packed`` is empty and the matrices themselves
    are taken.
    """
    if packed.numel():
        blocks = packed.split([len(matrix) for matrix in matrices])
    else:
        blocks = matrices
    return [block.to(dtype) for block in blocks]
