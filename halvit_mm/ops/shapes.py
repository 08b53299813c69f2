"""Shapes and dtypes of the operators' results, for tracing.

Arguments and results: :mod:`.schemas`.
"""

import torch
from torch import Tensor


def _like(x: Tensor, *shape: int, dtype=None) -> Tensor:
    """Make an uninitialised tensor, contiguous even if ``x`` is not."""
    return x.new_empty(shape or x.shape, dtype=dtype or x.dtype)


def _if(need: bool, x: Tensor, *shape: int, dtype=None) -> Tensor:
    return _like(x, *shape, dtype=dtype) if need else x.new_empty(0)


def add_layer_norm(residual, delta, row_scale, weight, bias, eps, dtype):
    """Shapes of :func:`.fallback.layer_norm.add_layer_norm`."""
    out = _if(delta is not None, residual)
    wide = torch.promote_types(residual.dtype, torch.float32)
    rows = residual.numel() // residual.shape[-1]
    stats = (_like(residual, rows, dtype=wide) for _ in range(2))
    return out, _like(residual, dtype=dtype), *stats


def add_layer_norm_backward(
    grad_residual,
    grad_y,
    residual,
    mean,
    rstd,
    weight,
    row_scale,
    delta_dtype,
    needs,
):
    """Shapes of :func:`.fallback.layer_norm.add_layer_norm_backward`."""
    own = row_scale is not None or delta_dtype != residual.dtype
    return (
        _like(residual),
        _if(needs[0] and own, residual, dtype=delta_dtype),
        _if(needs[1], weight),
        _if(needs[2], weight),
    )


def pack_qkv(wq, wkv, dtype):
    """Shapes of :func:`.fallback.attention.pack_qkv`."""
    return _like(wq, 3 * wq.shape[0], wq.shape[1], dtype=dtype)


def tied_qkv(x, wq, wkv, bq, bk, bv):
    """Shapes of :func:`.fallback.attention.tied_qkv`."""
    D = wq.shape[0]
    packed = _if(x.dtype != wq.dtype, x, 2 * D, D)
    return _like(x), _like(x), _like(x), packed


def tied_qkv_backward(dq, dk, dv, x, wq, wkv, packed, needs):
    """Shapes of :func:`.fallback.attention.tied_qkv_backward`."""
    D = wq.shape[0]
    return (
        _if(needs[0], x),
        _if(needs[1], wq),
        _if(needs[2], wkv),
        *(_if(need, wq, D) for need in needs[3:]),
    )


def tied_out(o, wq, packed, bias):
    """Shapes of :func:`.fallback.attention.tied_out`."""
    return _like(o)


def tied_out_backward(g, o, wq, packed, needs):
    """Shapes of :func:`.fallback.attention.tied_out_backward`."""
    D = wq.shape[0]
    return (
        _if(needs[0], o),
        _if(needs[1], wq),
        _if(needs[2], wq, D),
    )


def tied_ffn(x, w, b1, b2, signed, approximate, impl):
    """Shapes of :func:`.fallback.feed_forward.tied_ffn`."""
    w_cast = _if(x.dtype != w.dtype, x, *w.shape)
    return _like(x), _like(x, *x.shape[:-1], w.shape[0]), w_cast


def tied_ffn_inference(x, w, b1, b2, signed, approximate, impl):
    """Shapes of :func:`.fallback.feed_forward.tied_ffn_inference`."""
    return _like(x)


def tied_ffn_backward(g, x, u, w, w_cast, signed, approximate, impl, needs):
    """Shapes of :func:`.fallback.feed_forward.tied_ffn_backward`."""
    F, D = w.shape
    return (
        _if(needs[0], x),
        _if(needs[1], w),
        _if(needs[2], w, F),
        _if(needs[3], w, D),
    )
