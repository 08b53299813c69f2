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

# gain, signed, approximate, impl
FFN = [
    (0, 0, 'none', 0),
    (0, 0, 'tanh', 0),
    (1, 0, 'none', 0),
    (1, 0, 'tanh', 0),
    (0, 1, 'none', 0),
    (0, 0, 'tanh', 1),
    (0, 1, 'tanh', 1),
]


@pytest.mark.parametrize('tokens', TOKENS)
@pytest.mark.parametrize(('width', 'hidden'), [(8, 32), (48, 192), (8, 272)])
@pytest.mark.parametrize(('x_type', 'w_type'), DTYPES)
@pytest.mark.parametrize('biases', [(1, 1), (0, 0)])
@pytest.mark.parametrize(('has_gain', 'signed', 'form', 'impl'), FFN)
def test_ffn(
    tokens,
    width,
    hidden,
    x_type,
    w_type,
    biases,
    has_gain,
    signed,
    form,
    impl,
    refuse,
):
    if refuse and (hidden != 192 or tokens != 5):
        return
    x = rand(tokens, width, dtype=x_type)
    w = rand(hidden, width, dtype=w_type, scale=width**-0.5)
    b1 = rand(hidden, dtype=w_type) if biases[0] else None
    b2 = rand(width, dtype=w_type) if biases[1] else None
    gain = rand(hidden, dtype=w_type) if has_gain else None
    options = gain, bool(signed), form, impl
    y, u, w_cast = OPS.tied_ffn(x, w, b1, b2, *options)
    alone = OPS.tied_ffn_inference(x, w, b1, b2, *options)

    leaves = [wide(x), wide(w, x_type), *map(wide, (b1, b2, gain))]
    for i in (2, 3):  # also biases that are not there have a gradient
        if leaves[i] is None:
            leaves[i] = wide(torch.zeros(w.shape[i - 2]))
        else:
            leaves[i] = wide((b1, b2)[i - 2], x_type)
    u_wide = leaves[0] @ leaves[1].t() + leaves[2]
    factor = 1 if gain is None else leaves[4]
    if signed:
        factor = torch.ones(hidden).double()
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
    for needs in masks(5, tokens == 5):
        actual = OPS.tied_ffn_backward(g, x, u, w, w_cast, *options, needs)
        wanted = [*needs[:4], needs[4] and bool(has_gain)]
        types = [x_type, *[w_type] * 4]
        loose = loosest(x_type, w_type)
        assert_all(actual, reference, wanted, types, loose)
