"""The tied projections of attention, against the formulas in float64."""

import itertools

import pytest
import torch

from .helpers import (
    BF16,
    DTYPES,
    F16,
    F32,
    OPS,
    TOKENS,
    WIDTHS,
    assert_all,
    assert_close,
    grads_of,
    loosest,
    masks,
    rand,
    record,
    wide,
)


def qkv_inputs(tokens, width, x_type, w_type, biases):
    scale = width**-0.5
    return (
        rand(tokens, width, dtype=x_type),
        *(rand(width, width, dtype=w_type, scale=scale) for _ in range(2)),
        *(rand(width, dtype=w_type) if b else None for b in biases),
    )


@pytest.mark.parametrize('tokens', TOKENS)
@pytest.mark.parametrize('width', WIDTHS)
@pytest.mark.parametrize(('x_type', 'w_type'), DTYPES)
@pytest.mark.parametrize('biases', [(1, 1, 1), (0, 0, 0), (0, 0, 1)])
def test_qkv(tokens, width, x_type, w_type, biases):
    inputs = qkv_inputs(tokens, width, x_type, w_type, biases)
    *qkv, packed = OPS.tied_qkv(*inputs)
    leaves = [wide(t, x_type) for t in inputs]
    x, wq, wkv, *b = leaves
    expected = [x @ wq.t(), x @ wkv.t(), x @ wkv]
    expected = [
        e if bias is None else e + bias for e, bias in zip(expected, b)
    ]
    for name, a, e in zip('qkv', qkv, expected):
        assert a.dtype == x_type
        assert_close(a, e, x_type, name)
    stacked = torch.cat(inputs[1:3]).to(x_type)
    assert torch.equal(packed, stacked if x_type != w_type else packed[:0])

    full = [rand(tokens, width, dtype=x_type) for _ in range(3)]
    leaves[3:] = [wide(rand(width)) for _ in range(3)]
    outputs = [e + z for e, z in zip(expected, leaves[3:])]
    some = tokens == 5
    choices = [(1, 1, 1), (0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 1, 1)]
    choices = choices if some else choices[:1]
    for given, needs in itertools.product(choices, masks(6, some)):
        gradients = [g if use else None for g, use in zip(full, given)]
        actual = OPS.tied_qkv_backward(*gradients, *inputs[:3], packed, needs)
        reference = grads_of(outputs, leaves, gradients)
        types = [x_type] + [w_type] * 5
        loose = loosest(x_type, w_type)
        assert_all(actual, reference, needs, types, loose)


@pytest.mark.parametrize('tokens', TOKENS)
@pytest.mark.parametrize('width', WIDTHS)
@pytest.mark.parametrize(('x_type', 'w_type'), DTYPES)
@pytest.mark.parametrize('packs', [False, True])
@pytest.mark.parametrize('has_bias', [False, True])
def test_out(tokens, width, x_type, w_type, packs, has_bias):
    o = rand(tokens, width, dtype=x_type)
    wq = rand(width, width, dtype=w_type, scale=width**-0.5)
    bias = rand(width, dtype=w_type) if has_bias else None
    packed = torch.cat([wq, wq * 9]).to(x_type) if packs else o.new_empty(0)
    y = OPS.tied_out(o, wq, packed, bias)
    leaves = [wide(o), wide(wq, x_type), wide(rand(width))]
    expected = leaves[0] @ leaves[1]
    shifted = expected if bias is None else expected + wide(bias, x_type)
    assert y.dtype == x_type
    assert_close(y, shifted, x_type, 'y')

    g = rand(tokens, width, dtype=x_type)
    reference = grads_of([expected + leaves[2]], leaves, [g])
    for needs in masks(3, tokens == 5):
        actual = OPS.tied_out_backward(g, o, wq, packed, needs)
        types = [x_type, w_type, w_type]
        loose = loosest(x_type, w_type)
        assert_all(actual, reference, needs, types, loose)


@pytest.mark.parametrize('width', [8, 48, 72, 136])
@pytest.mark.parametrize('w_type', [F32, F16, BF16])
@pytest.mark.parametrize('dtype', [F32, F16, BF16])
def test_pack(width, w_type, dtype):
    wq, wkv = (rand(width, width, dtype=w_type) for _ in range(2))
    packed = OPS.pack_qkv(wq, wkv, dtype)
    assert torch.equal(packed, torch.cat([wq, wkv, wkv.t()]).to(dtype))
    assert len(record()) == 1
