"""The fallback of the residual sum and its layer norm.

Shapes: B samples, T tokens in all, D width.
"""

from typing import List, Optional, Tuple

import torch
from torch import Tensor

from .products import empty


def _per_sample(row_scale: Tensor, like: Tensor) -> Tensor:
    return row_scale.view(-1, *[1] * (like.dim() - 1))


def _contiguous(like: Tensor, dtype: Optional[torch.dtype] = None) -> Tensor:
    """Return an uninitialised tensor, contiguous even if ``like`` is not."""
    return like.new_empty(like.shape, dtype=dtype)


def add_layer_norm(
    residual: Tensor,
    delta: Optional[Tensor],
    row_scale: Optional[Tensor],
    weight: Tensor,
    bias: Tensor,
    eps: float,
    dtype: torch.dtype,
) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute the sum and its norm, see :data:`..schemas.SCHEMAS`."""
    total, out = residual, empty(residual)
    if delta is not None:
        total = out = _contiguous(residual)
        if row_scale is None:
            torch.add(residual, delta, out=out)
        else:
            scale = _per_sample(row_scale, delta)
            torch.addcmul(residual, delta, scale, out=out)
    wide = torch.promote_types(total.dtype, torch.float32)
    y, mean, rstd = torch.native_layer_norm(
        total.to(wide), total.shape[-1:], weight.to(wide), bias.to(wide), eps
    )
    return out, y.to(dtype), mean.flatten(), rstd.flatten()


def add_layer_norm_backward(
    grad_residual: Optional[Tensor],
    grad_y: Optional[Tensor],
    residual: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor,
    row_scale: Optional[Tensor],
    delta_dtype: torch.dtype,
    needs: List[bool],
) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute the gradients, see :data:`..schemas.SCHEMAS`.

    The gradient of delta is also empty where it equals the residual's.
    """
    if grad_y is None:
        d_residual = _contiguous(residual).copy_(grad_residual)
        d_weight, d_bias = (
            torch.zeros_like(weight) if need else empty(weight)
            for need in needs[1:]
        )
    else:
        d_residual, d_weight, d_bias = _norm_backward(
            grad_y, residual, mean, rstd, weight, needs[1:]
        )
        if grad_residual is not None:
            d_residual.add_(grad_residual)
        d_residual = d_residual.to(residual.dtype).contiguous()
    d_delta = empty(residual)
    if needs[0] and row_scale is not None:
        d_delta = _contiguous(d_residual, delta_dtype)
        scale = _per_sample(row_scale, d_residual)
        torch.mul(d_residual, scale, out=d_delta)
    elif needs[0] and delta_dtype != d_residual.dtype:
        d_delta = d_residual.to(delta_dtype)
    return d_residual, d_delta, d_weight, d_bias


def _norm_backward(grad_y, residual, mean, rstd, weight, needs):
    wide = mean.dtype
    weight_wide = weight.to(wide)
    per_row = (*residual.shape[:-1], 1)
    d_residual, d_weight, d_bias = torch.ops.aten.native_layer_norm_backward(
        grad_y.to(wide),
        residual.to(wide),
        residual.shape[-1:],
        mean.view(per_row),
        rstd.view(per_row),
        weight_wide,
        weight_wide,  # the bias: only its shape is looked at
        [True, *needs],
    )
    d_weight, d_bias = (
        empty(weight) if d is None else d.to(weight.dtype)
        for d in (d_weight, d_bias)
    )
    return d_residual, d_weight, d_bias
