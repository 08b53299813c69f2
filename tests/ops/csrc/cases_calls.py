"""Layouts, launches, errors, and the way from the public functions."""

import pytest
import torch

import halvit_mm.ops

from .helpers import (
    BF16,
    F16,
    F32,
    OPS,
    assert_close,
    rand,
    record,
    wide,
)


def test_shapes_without_rows():
    width, hidden = 8, 32
    x = torch.empty(2, 0, width, dtype=BF16)
    w, wf = rand(width, width), rand(hidden, width)
    v, vf = rand(width), rand(hidden)
    *qkv, packed = OPS.tied_qkv(x, w, w, v, v, v)
    assert all(t.shape == x.shape for t in qkv)
    assert torch.equal(packed, torch.cat([w, w]).to(BF16))
    y = OPS.tied_out(x, w, packed, v)
    ffn = OPS.tied_ffn(x, wf, vf, v, False, 'none')
    alone = OPS.tied_ffn_inference(x, wf, vf, v, False, 'none')
    norm = OPS.add_layer_norm(x, x, None, v, v, 1e-6, F32)
    assert y.shape == ffn[0].shape == alone.shape == norm[1].shape == x.shape
    assert ffn[1].shape == (2, 0, hidden) and norm[2].shape == (0,)
    record()
    gradients = [
        *OPS.tied_qkv_backward(x, x, x, x, w, w, packed, [True] * 6),
        *OPS.tied_out_backward(x, x, w, packed, [True] * 3),
        *OPS.tied_ffn_backward(
            x, x, ffn[1], wf, ffn[2], False, 'none', [True] * 4
        ),
        *OPS.add_layer_norm_backward(
            x, x, x, norm[2], norm[3], v, None, F32, [True] * 3
        ),
    ]
    assert not record()
    shapes = [x, w, w, v, v, v, x, w, v, x, wf, vf, v, x, x, v, v]
    assert len(gradients) == len(shapes)
    for gradient, like in zip(gradients, shapes):
        assert gradient.shape == like.shape
        assert not gradient.any()


def shifted(tensor):
    """The same values at an address that is no multiple of 16 bytes."""
    buffer = tensor.new_empty(tensor.numel() + 1)
    view = buffer[1:].view(tensor.shape)
    return view.copy_(tensor)


def strided(tensor):
    """The same values, every second of the last dimension."""
    return torch.stack([tensor, tensor], -1)[..., 0]


@pytest.mark.parametrize('move', [shifted, strided])
@pytest.mark.parametrize('w_type', [F32, BF16])
def test_views(move, w_type):
    tokens, width, hidden = 5, 8, 32
    x, g = (rand(1, tokens, width, dtype=BF16) for _ in range(2))
    w, v = rand(width, width, dtype=w_type), rand(width, dtype=w_type)
    wf, vf = rand(hidden, width, dtype=w_type), rand(hidden, dtype=w_type)
    u = rand(1, tokens, hidden, dtype=BF16)
    mean, rstd = rand(tokens), rand(tokens)
    options = True, 'none'
    nothing = x.new_empty(0)
    packed, cast = rand(2 * width, width, dtype=BF16), wf.to(BF16)
    scale = rand(1)
    calls = [
        (OPS.add_layer_norm, (x, g, scale, v, v, 1e-6, BF16)),
        (
            OPS.add_layer_norm_backward,
            (g, g, x, mean, rstd, v, scale, F32, [True] * 3),
        ),
        (OPS.tied_qkv, (x, w, w, v, v, v)),
        (OPS.tied_qkv_backward, (g, g, g, x, w, w, packed, [True] * 6)),
        (OPS.tied_out, (x, w, packed, v)),
        (OPS.tied_out_backward, (g, x, w, packed, [True] * 3)),
        (OPS.tied_out, (x, w, nothing, v)),
        (OPS.tied_ffn, (x, wf, vf, v, *options)),
        (OPS.tied_ffn_inference, (x, wf, vf, v, *options)),
        (OPS.tied_ffn_backward, (g, x, u, wf, cast, *options, [True] * 4)),
        (OPS.pack_qkv, (w, w, F16)),
    ]
    for op, arguments in calls:
        moved = [
            move(a) if isinstance(a, torch.Tensor) and a.numel() else a
            for a in arguments
        ]
        actual, expected = op(*moved), op(*arguments)
        if isinstance(actual, torch.Tensor):
            actual, expected = [actual], [expected]
        for a, e in zip(actual, expected):
            assert torch.equal(a, e), op


def test_launches():
    """One launch casts all; what is not needed is not computed."""
    x, w, v, wf = rand(5, 8, dtype=BF16), rand(8, 8), rand(8), rand(32, 8)
    *_, packed = OPS.tied_qkv(x, w, w, v, v, v)
    assert record() == ['cast_kernel']
    OPS.tied_qkv_backward(x, x, None, x, w, w, packed, [1, 1, 1, 1, 1, 1])
    OPS.tied_out_backward(x, x, w, packed, [1, 1, 1])
    assert not record()  # products and sums are PyTorch's
    _, u, cast = OPS.tied_ffn(x, wf, wf[:, 0], v, True, 'none')
    assert [name.split('<')[0] for name in record()] == [
        'cast_kernel',
        'kernel',
    ]
    arguments = x, x, u, wf, cast, True, 'none'
    OPS.tied_ffn_backward(*arguments, [1, 1, 1, 1])
    assert len(record()) == 2  # GELU, and the sums of the bias
    OPS.tied_ffn_backward(*arguments, [0, 0, 0, 1])
    assert not record()


def bad_calls():
    x, w, v, wf = rand(5, 8), rand(8, 8), rand(8), rand(32, 8)
    qkv, out, backward = OPS.tied_qkv, OPS.tied_out, OPS.tied_out_backward

    def ffn(w, form='none'):
        OPS.tied_ffn(x, w, None, None, False, form)

    def norm(x, delta, scale, w):
        OPS.add_layer_norm(x, delta, scale, w, w, 0.0, F32)

    return {
        'multiple of 8': lambda: qkv(x[:, :6], w, w, v, v, v),
        r'wkv has shape \[8, 4\]': lambda: qkv(x, w, w[:, :4], v, v, v),
        'bk has shape': lambda: qkv(x, w, w, v, v[:4], v),
        'float32, float16 or bfloat16': lambda: qkv(x.double(), w, w, v, v, v),
        'wq is Float, wkv': lambda: qkv(x, w, w.half(), v, v, v),
        'packed is Half': lambda: out(x, w, w.half(), v),
        'rows, expected a positive multiple': lambda: ffn(wf[:20]),
        "expected 'none' or 'tanh'": lambda: ffn(wf, form='erf'),
        'at most 8192': lambda: norm(rand(1, 8200), None, None, rand(8200)),
        'row_scale without delta': lambda: norm(x, None, rand(5), v),
        'row_scale has shape': lambda: norm(x, x, rand(4), v),
        'needs has 2 entries': lambda: backward(x, x, w, w, [True, True]),
    }


@pytest.mark.parametrize('message', list(bad_calls()))
def test_bad_arguments(message):
    with pytest.raises(RuntimeError, match=message):
        bad_calls()[message]()


def test_gradients_through_the_package():
    """From the public functions, with autograd and under autocast."""
    x = rand(2, 5, 8).requires_grad_()
    w, b = rand(8, 8).requires_grad_(), rand(8).requires_grad_()
    with torch.autocast('cpu', BF16):
        q, k, v, _ = halvit_mm.ops.tied_qkv(x, w, w, b, b, b)
        y = halvit_mm.ops.tied_out(q + k + v, w, b)
    y.float().sum().backward()
    leaves = [wide(t.detach()) for t in (x, w, b)]
    x2, w2, b2 = leaves
    o = x2 @ w2.t() * 2 + x2 @ w2 + 3 * b2
    expected = torch.autograd.grad((o @ w2 + b2).sum(), leaves)
    for actual, reference in zip((x.grad, w.grad, b.grad), expected):
        assert actual.dtype == F32
        assert_close(actual, reference, BF16)
    assert any('cast_kernel' in line for line in record())
