"""Residual sum and layer norm, against the formula in float64."""

import itertools

import pytest
import torch

from .helpers import (
    BF16,
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


def norm_inputs(samples, tokens, width, residual, delta, weight=F32):
    return (
        rand(samples, tokens, width, dtype=residual) + 0.5,
        None if delta is None else rand(samples, tokens, width, dtype=delta),
        rand(width, dtype=weight) + 1,
        rand(width, dtype=weight),
    )


def norm_formula(residual, delta, scale, weight, bias, eps):
    total = residual
    if delta is not None:
        factor = 1 if scale is None else scale.double().view(-1, 1, 1)
        total = residual + factor * delta
    mean = total.mean(-1, keepdim=True)
    var = ((total - mean) ** 2).mean(-1, keepdim=True)
    rstd = (var + eps).rsqrt()
    return total, (total - mean) * rstd * weight + bias, mean, rstd


@pytest.mark.parametrize('tokens', TOKENS)
@pytest.mark.parametrize('width', WIDTHS)
@pytest.mark.parametrize('scaled', [False, True])
@pytest.mark.parametrize(
    ('r', 'd', 'y'),
    [*itertools.product([F32, F16, BF16], [None, F32, BF16, F16], [F32, BF16])]
    + [(F16, F16, F16)],
)
def test_norm(tokens, width, scaled, r, d, y):
    if scaled and d is None:
        return
    samples = 2
    residual, delta, weight, bias = norm_inputs(samples, tokens, width, r, d)
    scale = torch.tensor([0.0, 1.25]) if scaled else None
    check_norm(residual, delta, scale, weight, bias, y)


# Every number of registers, and both widths of a group of threads.
@pytest.mark.parametrize('width', [256, 264, 520, 776, 1024, 1032, 2056, 8192])
@pytest.mark.parametrize('r', [F32, BF16])
def test_norm_width(width, r):
    inputs = norm_inputs(1, 13, width, r, BF16, weight=BF16)
    check_norm(*inputs[:2], None, *inputs[2:], BF16)


def check_norm(residual, delta, scale, weight, bias, y_type):
    eps = 1e-6
    samples, tokens, width = residual.shape
    total, y, mean, rstd = OPS.add_layer_norm(
        residual, delta, scale, weight, bias, eps, y_type
    )
    tensors = [wide(t) for t in (residual, delta, weight, bias)]
    expected = norm_formula(*tensors[:2], scale, *tensors[2:], eps)
    loose = loosest(residual.dtype, y_type)
    assert y.dtype == y_type and mean.dtype == rstd.dtype == F32
    if delta is None:
        assert not total.numel()
        total = residual
    else:
        assert total.dtype == residual.dtype
        assert_close(total, expected[0], residual.dtype, 'sum')
    assert_close(y, expected[1], loose, 'y')
    assert_close(mean, expected[2].flatten(), loose, 'mean')
    assert_close(rstd, expected[3].flatten(), loose, 'rstd')

    # backward, from what was normalised
    delta_type = residual.dtype if delta is None else delta.dtype
    leaf, w, b = wide(total), wide(weight), wide(bias)
    out = norm_formula(leaf, None, None, w, b, eps)[1]
    types = (residual.dtype, y_type)
    full = [rand(samples, tokens, width, dtype=dtype) for dtype in types]
    some = tokens == 5
    choices = [(1, 1), (1, 0), (0, 1), (0, 0)] if some else [(1, 1)]
    for given, needs in itertools.product(choices, masks(3, some)):
        gradients = [g if use else None for g, use in zip(full, given)]
        saved = (total, mean, rstd, weight, scale)
        actual = OPS.add_layer_norm_backward(
            *gradients, *saved, delta_type, needs
        )
        d_residual, d_weight, d_bias = grads_of(
            [leaf, out], [leaf, w, b], gradients
        )
        factor = 1 if scale is None else scale.double().view(-1, 1, 1)
        own = scale is not None or delta_type != residual.dtype
        assert_all(
            actual,
            [d_residual, d_residual * factor, d_weight, d_bias],
            [True, needs[0] and own, *needs[1:]],
            [residual.dtype, delta_type, weight.dtype, weight.dtype],
            loosest(loose, delta_type, weight.dtype),
        )


def test_launches_have_names():
    """A launch that the GPU refuses is told by them."""
    x, v = rand(1, 5, 8), rand(8)
    total, *_, mean, rstd = OPS.add_layer_norm(x, x, None, v, v, 1e-6, F32)
    saved = (total, mean, rstd, v, None)
    OPS.add_layer_norm_backward(x, x, *saved, F32, [True] * 3)
    assert record() == [
        'add_layer_norm',
        'add_layer_norm_backward',
        'reduce_partials_kernel',
    ]
