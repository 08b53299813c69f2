"""The definition of the tied projections against hand-written products."""

import math

import pytest
import torch
from torch.testing import assert_close

from halvit_mm.ops.reference import tied_ffn, tied_out, tied_qkv

B, T, D, F = 2, 3, 4, 10  # F is no multiple of D: W is not mistaken for W^T


def rand(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def biases(*sizes, exist):
    return [rand(size) if exist else None for size in sizes]


def apply(matrix, x, bias=None):
    """``matrix x + bias`` for every token."""
    y = torch.einsum('oi,bti->bto', matrix, x)
    return y if bias is None else y + bias


def outer(y, x):
    """``y^T x``: the gradient of ``W`` where ``W x`` receives ``y``."""
    return torch.einsum('bto,bti->oi', y, x)


def gelu(u, approximate):
    """GELU and its derivative, by hand."""
    if approximate == 'none':
        cdf = (1 + torch.erf(u / math.sqrt(2))) / 2
        return u * cdf, cdf + u * torch.exp(-u * u / 2) / math.sqrt(
            2 * math.pi
        )
    c = math.sqrt(2 / math.pi)
    t = torch.tanh(c * (u + 0.044715 * u**3))
    slope = c * (1 + 3 * 0.044715 * u**2)
    return u * (1 + t) / 2, (1 + t) / 2 + u * (1 - t * t) * slope / 2


@pytest.mark.parametrize('exist', [True, False])
def test_qkv(exist):
    x, wq, wkv = rand(B, T, D), rand(D, D), rand(D, D)
    bq, bk, bv = biases(D, D, D, exist=exist)
    q, k, v = tied_qkv(x, wq, wkv, bq, bk, bv)
    assert_close(q, apply(wq, x, bq))
    assert_close(k, apply(wkv, x, bk))
    assert_close(v, apply(wkv.T, x, bv))


@pytest.mark.parametrize('exist', [True, False])
def test_out(exist):
    o, wq = rand(B, T, D), rand(D, D)
    (bias,) = biases(D, exist=exist)
    assert_close(tied_out(o, wq, bias), apply(wq.T, o, bias))


@pytest.mark.parametrize('approximate', ['none', 'tanh'])
@pytest.mark.parametrize('exist', [True, False])
def test_ffn(exist, approximate):
    x, w = rand(B, T, D), rand(F, D)
    b1, b2 = biases(F, D, exist=exist)
    hidden, _ = gelu(apply(w, x, b1), approximate)
    actual = tied_ffn(x, w, b1, b2, approximate)
    assert_close(actual, apply(w.T, hidden, b2))


def test_ffn_uses_the_erf_form_by_default():
    x, w = rand(B, T, D), rand(F, D)
    assert torch.equal(tied_ffn(x, w), tied_ffn(x, w, approximate='none'))
    assert not torch.equal(tied_ffn(x, w), tied_ffn(x, w, approximate='tanh'))


def test_gradient_of_the_key_value_matrix():
    x, wq, wkv = rand(B, T, D), rand(D, D), rand(D, D)
    dq, dk, dv = (torch.randn(B, T, D, dtype=x.dtype) for _ in range(3))
    bq, bk, bv = biases(D, D, D, exist=True)
    outs = tied_qkv(x, wq, wkv, bq, bk, bv)
    torch.autograd.backward(outs, (dq, dk, dv))
    # dWkv = dk^T x + x^T dv
    assert_close(wkv.grad, outer(dk, x) + outer(x, dv))
    assert_close(x.grad, apply(wq.T, dq) + apply(wkv.T, dk) + apply(wkv, dv))
    for bias, gradient in ((bq, dq), (bk, dk), (bv, dv)):
        assert_close(bias.grad, gradient.sum(dim=(0, 1)))


def test_gradient_of_the_query_matrix():
    x, o, wq, wkv = rand(B, T, D), rand(B, T, D), rand(D, D), rand(D, D)
    dq, g = (torch.randn(B, T, D, dtype=x.dtype) for _ in range(2))
    (bo,) = biases(D, exist=True)
    q, _, _ = tied_qkv(x, wq, wkv)
    torch.autograd.backward((q, tied_out(o, wq, bo)), (dq, g))
    # dWq = dq^T x + o^T g
    assert_close(wq.grad, outer(dq, x) + outer(o, g))
    assert_close(o.grad, apply(wq, g))
    assert_close(bo.grad, g.sum(dim=(0, 1)))


@pytest.mark.parametrize('approximate', ['none', 'tanh'])
def test_gradient_of_the_ffn_matrix(approximate):
    x, w = rand(B, T, D), rand(F, D)
    b1, b2 = biases(F, D, exist=True)
    g = torch.randn(B, T, D, dtype=x.dtype)
    tied_ffn(x, w, b1, b2, approximate).backward(g)
    h, slope = gelu(apply(w, x, b1), approximate)
    du = apply(w, g) * slope
    # dW = du^T x + h^T g
    assert_close(w.grad, outer(du, x) + outer(h, g))
    assert_close(x.grad, apply(w.T, du))
    assert_close(b1.grad, du.sum(dim=(0, 1)))
    assert_close(b2.grad, g.sum(dim=(0, 1)))
