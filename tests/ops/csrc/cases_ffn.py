"""The tied feed-forward network, against the formula in float64."""

import pytest
import torch
import torch.nn.functional as F

from .helpers import (
    DTYPES,
    OPS,
    TOKENS,
    assert_all,
    assert_close,
    grads_of,
    loosest,
    masks,
    rand,
    wide,
)

# signed, approximate
FFN = [(False, 'none'), (False, 'tanh'), (True, 'none'), (True, 'tanh')]


@pytest.mark.parametrize('tokens', TOKENS)
@pytest.mark.parametrize(
    ('width', 'hidden'), [(8, 32), (48, 192), (8, 272), (8, 24)]
)
@pytest.mark.parametrize(('x_type', 'w_type'), DTYPES)
@pytest.mark.parametrize('biases', [(1, 1), (0, 0)])
@pytest.mark.parametrize('options', FFN)
def test_ffn(tokens, width, hidden, x_type, w_type, biases, options):
    signed, form = options
    x = rand(tokens, width, dtype=x_type)
    w = rand(hidden, width, dtype=w_type, scale=width**-0.5)
    b1 = rand(hidden, dtype=w_type) if biases[0] else None
    b2 = rand(width, dtype=w_type) if biases[1] else None
    y, u, w_cast = OPS.tied_ffn(x, w, b1, b2, *options)
    alone = OPS.tied_ffn_inference(x, w, b1, b2, *options)

    # also biases that are not there have a gradient
    there = (torch.zeros(hidden) if b1 is None else b1,)
    there += (torch.zeros(width) if b2 is None else b2,)
    leaves = [wide(t, x_type) for t in (x, w, *there)]
    u_wide = leaves[0] @ leaves[1].t() + leaves[2]
    factor = torch.ones(hidden).double()
    if signed:
        factor[hidden // 2 :] = -1
    h = F.gelu(u_wide, approximate=form) * factor
    expected = h @ leaves[1] + leaves[3]
    assert y.dtype == u.dtype == alone.dtype == x_type
    assert_close(u, u_wide, x_type, 'u')
    assert_close(y, expected, x_type, 'y')
    assert_close(alone, expected, x_type, 'inference')
    cast = w.to(x_type)
    assert torch.equal(w_cast, cast if x_type != w_type else cast[:0, 0])

    g = rand(tokens, width, dtype=x_type)
    reference = grads_of([expected], leaves, [g])
    for needs in masks(4, tokens == 5):
        actual = OPS.tied_ffn_backward(g, x, u, w, w_cast, *options, needs)
        types = [x_type, *[w_type] * 3]
        loose = loosest(x_type, w_type)
        assert_all(actual, reference, needs, types, loose)
