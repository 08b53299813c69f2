"""Every tying, against formulas that are written out here, in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from halvit_mm import ops
from halvit_mm.models import HaLViT, SharedHaLViT
from tests.helpers import build, randomise

from .references import attention

D, HIDDEN = 32, 64  # of tests.helpers.ARCH
#: Name -> options, the row shift and the signs of the FFN.
TYINGS = {
    'paper': ({}, 0, False),
    'signed': (dict(gain='signed'), 0, True),
    'like': (dict(attn='like'), 0, False),
    'like-signed': (dict(attn='like', gain='signed'), 0, True),
    'like-signed-shift': (
        dict(attn='like', gain='signed', hidden_shift=D // 2),
        D // 2,
        True,
    ),
    'paper-shift': (dict(hidden_shift=D), D, False),
    'like-signed-tau': (
        dict(attn='like', gain='signed', attention_scale=3),
        0,
        True,
    ),
    'untied-tau': (
        dict(attn='untied', gain='untied', attention_scale=8),
        0,
        False,
    ),
    'like-untied-ffn': (dict(attn='like', gain='untied'), 0, False),
    'untied-attn-signed': (dict(attn='untied', gain='signed'), 0, True),
}


def layer_of(name):
    torch.manual_seed(0)
    model = build(HaLViT, **TYINGS[name][0])
    return randomise(model).layers[0].double()


def ffn_by_hand(ffn, x, shift, signed):
    """Unit i reads row i and writes row i + shift, with its sign."""
    if not hasattr(ffn, 'tied'):
        first, second = ffn.layers[0][0], ffn.layers[1]
        hidden = F.gelu(x @ first.weight.T + first.bias)
        return hidden @ second.weight.T + second.bias
    w = ffn.tied.weight
    y = ffn.tied.transposed_bias.expand_as(x)
    for i in range(HIDDEN):
        unit = F.gelu(x @ w[i] + ffn.tied.bias[i])
        sign = -1.0 if signed and i >= HIDDEN // 2 else 1.0
        y = y + sign * unit[..., None] * w[(i + shift) % HIDDEN]
    return y


def norm_by_hand(norm, x):
    centred = x - x.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    return centred / (variance + norm.eps).sqrt() * norm.weight + norm.bias


def by_hand(layer, x, shift, signed, tau):
    x = x + attention(layer.attn, norm_by_hand(layer.ln1, x), tau)
    y = norm_by_hand(layer.ln2, x)
    return x + ffn_by_hand(layer.ffn, y, shift, signed)


@pytest.mark.parametrize('choice', ['auto', 'plain'])
@pytest.mark.parametrize('name', TYINGS)
def test_layer(name, choice):
    """Output and all gradients, to 1e-9."""
    layer = layer_of(name)
    x = torch.randn(2, 6, D, dtype=torch.float64, requires_grad=True)
    g = torch.randn_like(x)
    leaves = dict(layer.named_parameters(), x=x)
    options, *ffn = TYINGS[name]
    tau = options.get('attention_scale', 1)
    expected = by_hand(layer, x, *ffn, tau)
    expected_grads = torch.autograd.grad(expected, list(leaves.values()), g)
    with ops.use(choice):
        actual = layer(x, (2, 3))
        grads = torch.autograd.grad(actual, list(leaves.values()), g)
    assert_close(actual, expected, rtol=1e-9, atol=1e-9)
    for key, grad, other in zip(leaves, grads, expected_grads):
        assert grad.shape == leaves[key].shape
        assert_close(grad, other, rtol=1e-9, atol=1e-9, msg=key)


@pytest.mark.parametrize('name', TYINGS)
def test_first_layer_is_named_in_the_mark(name):
    options, shift, _ = TYINGS[name]
    expected = options.get('gain', 'none')
    expected += f'+shift{shift}' * bool(shift)
    expected += '+like' * (options.get('attn') == 'like')
    tau = options.get('attention_scale')
    expected += f'+tau{tau}' if tau else ''
    buffer = build(HaLViT, **options).variant
    assert bytes(buffer.tolist()).decode().strip() == expected


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(attn='free'), "attn='free': choose one of"),
        (dict(attn='like', gain='learnt'), "out_gain='learnt' is for attn="),
        (dict(attn='untied', out_gain='learnt'), "for attn='paper', not 'unt"),
        (dict(gain='signed', hidden_shift=HIDDEN // 2), 'be antisymmetric'),
        (dict(gain='signed', hidden_shift=-HIDDEN // 2), 'be antisymmetric'),
        (dict(gain='untied', hidden_shift=8), 'no matrix that is used twice'),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        build(HaLViT, **options)


@pytest.mark.parametrize('options', [dict(attn='like'), dict(gain='untied')])
def test_all_layers_share_the_matrices_of_the_paper_only(options):
    with pytest.raises(ValueError, match='what SharedHaLViT shares'):
        build(SharedHaLViT, **options)
