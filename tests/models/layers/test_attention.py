"""Attention, tied and untied, against a softmax written out."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from halvit_mm.models.layers import (
    LikeTiedSelfAttention,
    SelfAttention,
    TiedSelfAttention,
)
from tests.helpers import assert_one_owner, num_params, randomise

from .references import attention, windowed_attention

CLASSES = [SelfAttention, TiedSelfAttention, LikeTiedSelfAttention]
D, HEADS = 24, 3


def build(cls, **kwargs):
    return randomise(cls(D, HEADS, **kwargs)).eval()


def reload(attn):
    other = randomise(copy.deepcopy(attn))
    attn.load_state_dict(other.state_dict())
    return attn


def init_weights(attn):
    attn.init_weights()
    return attn


CHANGES = {
    'none': lambda attn: attn,
    'init_weights': init_weights,
    'deepcopy': copy.deepcopy,
    'load_state_dict': reload,
    'to': lambda attn: attn.to(torch.float64),
}


@pytest.mark.parametrize('change', CHANGES)
@pytest.mark.parametrize('qkv_bias', [True, False])
@pytest.mark.parametrize('cls', CLASSES)
def test_equals_a_softmax_written_out(cls, qkv_bias, change):
    attn = CHANGES[change](build(cls, qkv_bias=qkv_bias))
    assert_one_owner(attn)
    x = torch.randn(2, 6, D).to(next(attn.parameters()))
    assert_close(attn(x, (2, 3)), attention(attn, x), atol=1e-5, rtol=1e-5)


# w = 3 does not divide these sides, w = 5 is longer than one of them,
# w = 4 fits both.
@pytest.mark.parametrize(
    ('hw', 'window_size'),
    [((5, 7), 3), ((6, 4), 3), ((4, 7), 5), ((8, 4), 4), ((3, 2), 1)],
)
@pytest.mark.parametrize('cls', CLASSES)
def test_windows_equal_attention_without_padding(cls, hw, window_size):
    attn = build(cls, window_size=window_size)
    x = torch.randn(2, hw[0] * hw[1], D)
    expected = windowed_attention(attn, x, hw, window_size)
    assert_close(attn(x, hw), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('cls', CLASSES)
def test_gradients_ignore_the_padding(cls):
    hw, window_size = (4, 5), 3
    attn = build(cls, window_size=window_size)
    x = torch.randn(1, 20, D)
    g = torch.randn_like(x)
    params = tuple(attn.parameters())
    actual = torch.autograd.grad(attn(x, hw), params, g)
    reference = windowed_attention(attn, x, hw, window_size)
    expected = torch.autograd.grad(reference, params, g)
    assert_close(actual, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('window_size', [0, 2])
@pytest.mark.parametrize('cls', CLASSES)
def test_dropout_acts_in_training_only(cls, window_size):
    x, hw = torch.randn(1, 6, D), (2, 3)
    plain = build(cls, window_size=window_size)
    for option in ('attn_drop_rate', 'proj_drop_rate'):
        attn = build(cls, window_size=window_size, **{option: 0.5})
        attn.load_state_dict(plain.state_dict())
        assert torch.equal(attn(x, hw), plain(x, hw))
        assert not torch.equal(attn.train()(x, hw), plain(x, hw)), option


@pytest.mark.parametrize('window_size', [0, 2])
@pytest.mark.parametrize('cls', CLASSES)
def test_upcast_attention(cls, window_size, monkeypatch):
    """Under autocast: scores in float32, projections and result are not."""
    seen = []
    inner = F.scaled_dot_product_attention

    def spy(q, *args, **kwargs):
        seen.append((q.dtype, torch.is_autocast_enabled('cpu')))
        return inner(q, *args, **kwargs)

    monkeypatch.setattr(F, 'scaled_dot_product_attention', spy)
    x, hw = torch.randn(1, 6, D), (2, 3)
    plain = build(cls, window_size=window_size)
    attn = build(cls, window_size=window_size, upcast_attention=True)
    attn.load_state_dict(plain.state_dict())
    assert torch.equal(attn(x, hw), plain(x, hw))
    double = copy.deepcopy(attn).double()
    assert double(x.double(), hw).dtype == torch.float64
    with torch.autocast('cpu', torch.bfloat16):
        expected, y = plain(x, hw), attn(x, hw)
    assert seen[0] == seen[1] == (torch.float32, False)
    assert seen[2] == (torch.float64, False)
    assert seen[3] == (torch.bfloat16, True)
    assert seen[4] == (torch.float32, False)
    assert y.dtype == expected.dtype == torch.bfloat16
    assert_close(y, expected, atol=0.05, rtol=0.05)


@pytest.mark.parametrize('options', [{}, dict(upcast_attention=True)])
@pytest.mark.parametrize('cls', CLASSES)
def test_factor_of_the_scores(cls, options):
    """Globally and in windows, upcast or not."""
    x, hw = torch.randn(2, 6, D), (2, 3)
    attn = build(cls, attention_scale=3, **options)
    assert_close(attn(x, hw), attention(attn, x, 3), atol=1e-5, rtol=1e-5)
    attn = build(cls, attention_scale=0.5, window_size=2, **options)
    expected = windowed_attention(attn, x, hw, 2, 0.5)
    assert_close(attn(x, hw), expected, atol=1e-5, rtol=1e-5)
    for tau in (0, -1, float('nan')):
        with pytest.raises(ValueError, match='attention_scale=.* positive'):
            build(cls, attention_scale=tau)


def test_parameter_counts():
    # q, k, v, out: matrices D x D and biases D
    assert num_params(SelfAttention(D, HEADS)) == 4 * D * D + 4 * D
    for cls in CLASSES[1:]:
        assert num_params(cls(D, HEADS)) == 2 * D * D + 4 * D
    # without qkv_bias the output keeps its own
    for cls, matrices in zip(CLASSES, (4, 2, 2)):
        attn = cls(D, HEADS, qkv_bias=False)
        assert num_params(attn) == matrices * D * D + D


@pytest.mark.parametrize('cls', CLASSES)
def test_heads_must_divide_the_width(cls):
    with pytest.raises(ValueError, match='embed_dims=24 .* num_heads=5'):
        cls(24, 5)
