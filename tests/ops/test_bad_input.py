"""What does not fit is refused, with what was given and what is expected."""

import pytest
import torch

from halvit_mm import ops

B, T, D, F = 2, 3, 8, 12


def r(*shape, **kwargs):
    return torch.randn(*shape, **kwargs)


X, W = r(B, T, D), r(F, D)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (
            lambda: ops.tied_ffn(r(B, T, 7), W),
            r'x has the shape \(2, 3, 7\), expected \(..., 8\)',
        ),
        (lambda: ops.tied_ffn(r(D), W), r'x has the shape \(8,\)'),
        (lambda: ops.tied_ffn(X, W, r(D)), r'b1 has the shape \(8,\).*\(12,'),
        (lambda: ops.tied_ffn(X, W, None, r(F)), r'b2 has the shape \(12,'),
        (lambda: ops.tied_ffn(X.long(), W), 'torch.int64, not floating'),
        (
            lambda: ops.tied_ffn(X.bfloat16(), W),
            'input is torch.bfloat16 and the weights are torch.float32.*auto',
        ),
        (
            lambda: ops.tied_ffn(X, W, r(F).double()),
            'b1 is torch.float64, the first weight torch.float32',
        ),
        (
            lambda: ops.tied_ffn(X, r(F, D, device='meta')),
            'w is on meta, the input on cpu',
        ),
        (
            lambda: ops.tied_ffn(X, W, approximate='erf'),
            r"approximate='erf': choose one of \['none', 'tanh'\]",
        ),
        (
            lambda: ops.tied_ffn(X, r(13, D), signed=True),
            '13 hidden units have no second half',
        ),
        (
            lambda: ops.tied_qkv(X, r(D, D), r(F, D)),
            r'wkv has the shape \(12, 8\), expected \(8, 8\)',
        ),
        (
            lambda: ops.tied_qkv(X, r(D, D), r(D, D), bv=r(F)),
            r'bv has the shape \(12,\)',
        ),
        (
            lambda: ops.tied_out(X, r(D, D), r(F)),
            r'bias has the shape \(12,\)',
        ),
        (
            lambda: ops.add_layer_norm(X, r(B, T + 1, D), r(D), r(D), 1e-6),
            r'delta has the shape \(2, 4, 8\), the residual \(2, 3, 8\)',
        ),
        (
            lambda: ops.add_layer_norm(
                X, X, r(D), r(D), 1e-6, row_scale=r(B * T)
            ),
            r'row_scale has the shape \(6,\), expected \(2,\)',
        ),
        (
            lambda: ops.add_layer_norm(
                X, X, r(D), r(D), 1e-6, row_scale=r(B, requires_grad=True)
            ),
            'row_scale has no gradient',
        ),
        (
            lambda: ops.pack_qkv(r(D, D), r(F, D), torch.float16),
            r'wkv has the shape \(12, 8\)',
        ),
    ],
)
@pytest.mark.parametrize('choice', ['auto', 'plain'])
def test_message(call, message, choice):
    with ops.use(choice), pytest.raises(ValueError, match=message):
        call()
