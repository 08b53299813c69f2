"""What does not fit is refused, with what was given and what is expected."""

import pytest
import torch

from halvit_mm import ops
from halvit_mm.ops import pack_qkv, tied_ffn, tied_out, tied_qkv

B, T, D, F = 2, 3, 8, 12


def r(*shape, **kwargs):
    return torch.randn(*shape, **kwargs)


def norm(delta=None, **kwargs):
    return ops.add_layer_norm(X, delta, r(D), r(D), 1e-6, **kwargs)


X, W, SQUARE = r(B, T, D), r(F, D), r(D, D)
CALLS = {
    r'x has the shape \(2, 3, 7\), expected \(..., 8\)': (
        lambda: tied_ffn(r(B, T, 7), W)
    ),
    r'x has the shape \(8,\)': lambda: tied_ffn(r(D), W),
    r'b1 has the shape \(8,\).*\(12,': lambda: tied_ffn(X, W, r(D)),
    r'b2 has the shape \(12,': lambda: tied_ffn(X, W, None, r(F)),
    'torch.int64, not floating': lambda: tied_ffn(X.long(), W),
    'input is torch.bfloat16 and the weights are torch.float32.*auto': (
        lambda: tied_ffn(X.bfloat16(), W)
    ),
    'b1 is torch.float64, the first weight torch.float32': (
        lambda: tied_ffn(X, W, r(F).double())
    ),
    'w is on meta, the input on cpu': lambda: tied_ffn(X, W.to('meta')),
    r"approximate='erf': choose one of \['none', 'tanh'\]": (
        lambda: tied_ffn(X, W, approximate='erf')
    ),
    '13 hidden units have no second half': (
        lambda: tied_ffn(X, r(13, D), signed=True)
    ),
    r'wkv has the shape \(12, 8\), expected \(8, 8\)': (
        lambda: tied_qkv(X, SQUARE, W)
    ),
    r'bv has the shape \(12,\)': lambda: tied_qkv(X, SQUARE, SQUARE, bv=r(F)),
    r'bias has the shape \(12,\)': lambda: tied_out(X, SQUARE, r(F)),
    r'delta has the shape \(2, 4, 8\), the residual \(2, 3, 8\)': (
        lambda: norm(r(B, T + 1, D))
    ),
    'delta is torch.int64': lambda: norm(X.long()),
    'weight is on cpu, the input on meta': lambda: norm(X.to('meta')),
    'row_scale without delta': lambda: norm(row_scale=r(B)),
    r'row_scale has the shape \(6,\), expected \(2,\)': (
        lambda: norm(X, row_scale=r(B * T))
    ),
    'row_scale has no gradient': (
        lambda: norm(X, row_scale=r(B, requires_grad=True))
    ),
    r'wkv has the shape \(12, 8\)': lambda: pack_qkv(SQUARE, W, torch.float16),
}


@pytest.mark.parametrize('message', CALLS)
@pytest.mark.parametrize('choice', ['auto', 'plain'])
def test_message(message, choice):
    with ops.use(choice), pytest.raises(ValueError, match=message):
        CALLS[message]()
