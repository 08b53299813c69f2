"""A residual sum and its layer norm, in one pass.

Shapes: B samples, T tokens (in an operator all leading dimensions,
flattened), D width.
"""

from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import check_input, check_parameters, compute_dtype
from .choice import uses_definition
from .products import empty
from .register import (
    like,
    like_if,
    none_if_empty,
    refuse_second_derivative,
    register,
)

SCHEMAS = {
    # residual, delta (..., D); row_scale (B,): B = residual.shape[0].
    # -> residual + row_scale * delta (empty without delta), y in `dtype`,
    #    mean and rstd (T,) in float32 (float64 for float64)
    'add_layer_norm': (
        '(Tensor residual, Tensor? delta, Tensor? row_scale, Tensor weight, '
        'Tensor bias, float eps, ScalarType dtype) '
        '-> (Tensor, Tensor, Tensor, Tensor)'
    ),
    # residual: what was normalised. needs: delta, weight, bias.
    # -> gradients of residual, delta (in delta_dtype; empty where it equals
    #    the residual's), weight, bias
    'add_layer_norm_backward': (
        '(Tensor? grad_residual, Tensor? grad_y, Tensor residual, '
        'Tensor mean, Tensor rstd, Tensor weight, Tensor? row_scale, '
        'ScalarType delta_dtype, bool[] needs) '
        '-> (Tensor, Tensor, Tensor, Tensor)'
    ),
}


def definition(
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
            delta = delta * _per_sample(row_scale.to(delta.dtype), delta)
        residual = (residual + delta).to(residual.dtype)
    y = F.layer_norm(residual, weight.shape, weight, bias, eps)
    return residual, y


def add_layer_norm(
    residual: Tensor,
    delta: Optional[Tensor],
    weight: Tensor,
    bias: Tensor,
    eps: float,
    row_scale: Optional[Tensor] = None,
    dtype: Optional[torch.dtype] = None,
) -> Tuple[Tensor, Tensor]:
    """Compute a residual sum and its layer norm by the operator.

    Args:
        residual, delta, weight, bias, eps, row_scale: As for
            :func:`definition`.
        dtype: Dtype of the norm; by default autocast's, or the residual's.

    Returns:
        The sum in the dtype of ``residual`` and its norm, each (B, T, D).

    Raises:
        ValueError: If shapes, devices or dtypes do not fit.
    """
    op, D = 'add_layer_norm', weight.shape[0]
    check_input(op, 'residual', residual, D)
    expected = (('weight', weight, (D,)), ('bias', bias, (D,)))
    check_parameters(op, residual, expected, may_cast=True)
    if delta is not None and delta.shape != residual.shape:
        raise ValueError(
            f'{op}: delta has the shape {tuple(delta.shape)}, the residual '
            f'{tuple(residual.shape)}'
        )
    if row_scale is not None and row_scale.shape != residual.shape[:1]:
        raise ValueError(
            f'{op}: row_scale has the shape {tuple(row_scale.shape)}, '
            f'expected ({len(residual)},), one factor per sample'
        )
    if row_scale is not None and row_scale.requires_grad:
        raise ValueError(f'{op}: row_scale has no gradient, detach it')
    if uses_definition(residual, D):
        total, y = definition(residual, delta, weight, bias, eps, row_scale)
        return total, y if dtype is None else y.to(dtype)
    dtype = dtype or compute_dtype(residual)
    total, y, _, _ = _add_layer_norm(
        residual, delta, row_scale, weight, bias, eps, dtype
    )
    return residual if delta is None else total, y


def layer_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    dtype: Optional[torch.dtype] = None,
) -> Tensor:
    """Compute a layer norm by :func:`add_layer_norm`, without a sum.

    Args:
        x: (B, T, D).
        weight: (D,).
        bias: (D,).
        eps: Added to the variance.
        dtype: Dtype of the norm; by default autocast's, or that of ``x``.

    Returns:
        (B, T, D).
    """
    return add_layer_norm(x, None, weight, bias, eps, dtype=dtype)[1]


def _per_sample(row_scale: Tensor, x: Tensor) -> Tensor:
    return row_scale.view(-1, *[1] * (x.dim() - 1))


def _forward(residual, delta, row_scale, weight, bias, eps, dtype):
    total, out = residual, empty(residual)
    if delta is not None:
        total = out = like(residual)
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


def _backward(g_sum, g_y, x, mean, rstd, weight, row_scale, d_dtype, needs):
    if g_y is None:
        dx = like(x)
        dx = dx.zero_() if g_sum is None else dx.copy_(g_sum)
        d_weight, d_bias = (
            torch.zeros_like(weight) if need else empty(weight)
            for need in needs[1:]
        )
    else:
        dx, d_weight, d_bias = _norm_backward(
            g_y, x, mean, rstd, weight, needs[1:]
        )
        if g_sum is not None:
            dx.add_(g_sum)
        dx = dx.to(x.dtype).contiguous()
    d_delta = empty(x)
    if needs[0] and row_scale is not None:
        d_delta = like(dx, dtype=d_dtype)
        torch.mul(dx, _per_sample(row_scale, dx), out=d_delta)
    elif needs[0] and d_dtype != dx.dtype:
        d_delta = dx.to(d_dtype)
    return dx, d_delta, d_weight, d_bias


def _norm_backward(g_y, x, mean, rstd, weight, needs):
    wide = mean.dtype
    weight_wide = weight.to(wide)
    per_row = (*x.shape[:-1], 1)
    dx, d_weight, d_bias = torch.ops.aten.native_layer_norm_backward(
        g_y.to(wide),
        x.to(wide),
        x.shape[-1:],
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
    return dx, d_weight, d_bias


def _fake(residual, delta, row_scale, weight, bias, eps, dtype):
    out = like_if(delta is not None, residual)
    wide = torch.promote_types(residual.dtype, torch.float32)
    rows = residual.numel() // residual.shape[-1]
    stats = (like(residual, rows, dtype=wide) for _ in range(2))
    return out, like(residual, dtype=dtype), *stats


def _fake_backward(
    g_sum, g_y, x, mean, rstd, weight, row_scale, d_dtype, needs
):
    own = row_scale is not None or d_dtype != x.dtype
    return (
        like(x),
        like_if(needs[0] and own, x, dtype=d_dtype),
        like_if(needs[1], weight),
        like_if(needs[2], weight),
    )


def _save(ctx, inputs, output):
    residual, delta, row_scale, weight, _, _, _ = inputs
    total, _, mean, rstd = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(mean, rstd)
    ctx.delta_dtype = None if delta is None else delta.dtype
    if delta is None:
        ctx.mark_non_differentiable(total)
        total = residual
    ctx.save_for_backward(total, mean, rstd, weight, row_scale)


def _gradients(ctx, g_sum, g_y, *_):
    refuse_second_derivative('add_layer_norm')
    if g_sum is None and g_y is None:
        return (None,) * 7
    saved = ctx.saved_tensors
    delta_dtype = ctx.delta_dtype or saved[0].dtype
    needs = [ctx.needs_input_grad[i] for i in (0, 1, 3, 4)]
    dx, d_delta, *rest = _add_layer_norm_backward(
        g_sum, g_y, *saved, delta_dtype, needs[1:]
    )
    if needs[1] and not d_delta.numel():
        d_delta = dx  # the operator leaves out an equal one
    dx, d_delta, *rest = none_if_empty((dx, d_delta, *rest), needs)
    return dx, d_delta, None, *rest, None, None


_add_layer_norm = register(
    'add_layer_norm', SCHEMAS, _forward, _fake, None, (_save, _gradients)
)
_add_layer_norm_backward = register(
    'add_layer_norm_backward', SCHEMAS, _backward, _fake_backward
)
