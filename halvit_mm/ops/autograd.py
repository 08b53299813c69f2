r"""Gradients of the operators, computed by their backward operators.

A tied matrix receives the sum of the gradients of its two uses (``u`` is the
hidden units before the GELU, ``h`` after it, ``g`` the output's gradient):

.. math:: dW_{kv} = dk^T x + x^T dv,\quad dW_q = dq^T x + o^T g,\quad
          dW = du^T x + h^T g

Weights enter as they are stored, and their gradients leave in that dtype.
"""

from typing import Tuple

import torch

from .schemas import NAMESPACE

#: Operators that have a gradient, each with its ``_context`` and
#: ``_backward`` here.
DIFFERENTIABLE = ('add_layer_norm', 'tied_qkv', 'tied_out', 'tied_ffn')

_ops = getattr(torch.ops, NAMESPACE)


def _check_once(name: str) -> None:
    if torch.is_grad_enabled():
        raise NotImplementedError(
            f'{NAMESPACE}::{name} has no second derivative; '
            'HALVIT_MM_OPS=plain computes by operators that have'
        )


def _none_if_empty(gradients, needs) -> Tuple:
    return tuple(g if need else None for g, need in zip(gradients, needs))


def add_layer_norm_context(ctx, inputs, output) -> None:
    """Save what was normalised, its mean and its inverse deviation."""
    residual, delta, row_scale, weight, _, _, _ = inputs
    total, _, mean, rstd = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(mean, rstd)
    ctx.delta_dtype = None if delta is None else delta.dtype
    if delta is None:
        ctx.mark_non_differentiable(total)
        total = residual
    ctx.save_for_backward(total, mean, rstd, weight, row_scale)


def add_layer_norm_backward(ctx, grad_residual, grad_y, *_) -> Tuple:
    """Return the gradients of residual, delta, weight and bias."""
    _check_once('add_layer_norm')
    residual, mean, rstd, weight, row_scale = ctx.saved_tensors
    if grad_residual is None and grad_y is None:
        return (None,) * 7
    needs = [ctx.needs_input_grad[i] for i in (1, 3, 4)]
    d_residual, d_delta, d_weight, d_bias = _ops.add_layer_norm_backward(
        grad_residual,
        grad_y,
        residual,
        mean,
        rstd,
        weight,
        row_scale,
        ctx.delta_dtype or residual.dtype,
        needs,
    )
    if needs[0] and not d_delta.numel():
        d_delta = d_residual  # the operator leaves out an equal one
    needs = (ctx.needs_input_grad[0], *needs)
    gradients = _none_if_empty((d_residual, d_delta, d_weight, d_bias), needs)
    d_residual, d_delta, d_weight, d_bias = gradients
    return d_residual, d_delta, None, d_weight, d_bias, None, None


def tied_qkv_context(ctx, inputs, output) -> None:
    """Save the input and the matrices, as stored and as cast."""
    x, wq, wkv, *_ = inputs
    packed = output[3]
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(packed)
    ctx.save_for_backward(x, wq, wkv, packed)


def tied_qkv_backward(ctx, dq, dk, dv, _) -> Tuple:
    """Return the gradients of the input, two matrices and three biases."""
    _check_once('tied_qkv')
    needs = ctx.needs_input_grad
    if dq is None and dk is None and dv is None:
        return (None,) * 6
    gradients = _ops.tied_qkv_backward(
        dq, dk, dv, *ctx.saved_tensors, list(needs)
    )
    return _none_if_empty(gradients, needs)


def tied_out_context(ctx, inputs, output) -> None:
    """Save the heads' outputs and the matrix, as stored and as cast."""
    ctx.save_for_backward(*inputs[:3])


def tied_out_backward(ctx, g) -> Tuple:
    """Return the gradients of the input, the matrix and the bias."""
    _check_once('tied_out')
    needs = [ctx.needs_input_grad[i] for i in (0, 1, 3)]
    gradients = _ops.tied_out_backward(g, *ctx.saved_tensors, needs)
    do, dwq, dbias = _none_if_empty(gradients, needs)
    return do, dwq, None, dbias


def tied_ffn_context(ctx, inputs, output) -> None:
    """Save the input, ``u`` and the matrix, as stored and as cast."""
    x, w, _, _, *ctx.options = inputs
    _, u, w_cast = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(u, w_cast)
    ctx.save_for_backward(x, u, w, w_cast)


def tied_ffn_backward(ctx, g, *_) -> Tuple:
    """Return the gradients of the input, the matrix and both biases."""
    _check_once('tied_ffn')
    needs = ctx.needs_input_grad[:4]
    if g is None:
        return (None,) * 7
    gradients = _ops.tied_ffn_backward(
        g, *ctx.saved_tensors, *ctx.options, list(needs)
    )
    return *_none_if_empty(gradients, needs), None, None, None
