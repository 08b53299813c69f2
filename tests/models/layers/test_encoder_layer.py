"""The encoder layer: its formula, its start, and its optimiser's groups."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from mmengine.optim import build_optim_wrapper
from torch import nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from halvit_mm.models.layers import (
    EncoderLayer,
    TiedEncoderLayer,
    TiedLinear,
)
from tests.helpers import assert_one_owner, num_params, randomise

from .references import attention

CLASSES = [EncoderLayer, TiedEncoderLayer]
D, HEADS, HIDDEN = 24, 3, 40
NORM = dict(type='LN', eps=1e-6)


def build(cls, **kwargs):
    return cls(D, HEADS, HIDDEN, norm_cfg=NORM, **kwargs)


def ffn_matrices(layer):
    """``W1, b1, W2, b2`` as an untied FFN has them."""
    if isinstance(layer, TiedEncoderLayer):
        tied = layer.ffn.tied
        return tied.weight, tied.bias, tied.weight.T, tied.transposed_bias
    first, second = layer.ffn.layers[0][0], layer.ffn.layers[1]
    return first.weight, first.bias, second.weight, second.bias


def reference(layer, x, approximate='none'):
    norm1, norm2 = (
        lambda t, n=n: F.layer_norm(t, (D,), n.weight, n.bias, 1e-6)
        for n in (layer.ln1, layer.ln2)
    )
    w1, b1, w2, b2 = ffn_matrices(layer)
    x = x + attention(layer.attn, norm1(x))
    hidden = F.gelu(norm2(x) @ w1.T + b1, approximate=approximate)
    return x + hidden @ w2.T + b2


def reload(layer):
    layer.load_state_dict(randomise(build(type(layer))).state_dict())
    return layer


def init_weights(layer):
    layer.init_weights()
    return layer


CHANGES = {
    'none': lambda layer: layer,
    'init_weights': init_weights,
    'deepcopy': copy.deepcopy,
    'load_state_dict': reload,
    'to': lambda layer: layer.to(torch.float64),
}


@pytest.mark.parametrize('change', CHANGES)
@pytest.mark.parametrize('cls', CLASSES)
def test_equals_its_formula(cls, change):
    layer = CHANGES[change](randomise(build(cls))).eval()
    assert_one_owner(layer)
    x = torch.randn(2, 6, D).to(layer.ln1.weight)
    expected = reference(layer, x)
    assert_close(layer(x, (2, 3)), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('cls', CLASSES)
def test_gelu_has_two_forms(cls):
    x = torch.randn(2, 6, D)
    erf = randomise(build(cls)).eval()
    tanh = build(cls, act='gelu_tanh').eval()
    tanh.load_state_dict(erf.state_dict())
    expected = reference(tanh, x, approximate='tanh')
    assert_close(tanh(x, (2, 3)), expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(tanh(x, (2, 3)), erf(x, (2, 3)), atol=1e-5)


@pytest.mark.parametrize('cls', CLASSES)
def test_drop_path_skips_whole_branches(cls):
    layer = randomise(build(cls, drop_path_rate=0.5)).train()
    x = torch.randn(1, 6, D).expand(64, -1, -1)
    y = layer(x, (2, 3)).detach()
    distinct = torch.unique(y.round(decimals=3), dim=0)
    # none, attention alone, FFN alone, both
    assert len(distinct) == 4
    skipped = (y == x).all(dim=(1, 2)).sum().item()
    assert 5 <= skipped <= 30  # 16 expected of 64, std 3.5
    layer.eval()
    assert_close(layer(x, (2, 3)), reference(layer, x), atol=1e-4, rtol=1e-4)


class Called(DropPath):
    """No longer what mmcv computes, for all the layer knows: it is called."""

    def forward(self, x):
        return super().forward(x)


class NoAttention(nn.Module):
    """Leaves the first branch zero, whether it is dropped or not."""

    def forward(self, x, hw):
        return torch.zeros_like(x)


def step(layer, x, dtype):
    """Output, gradients, and state of the generator of a seeded step."""
    x = x.clone().requires_grad_()
    torch.manual_seed(3)
    with torch.autocast('cpu', dtype, enabled=dtype is not None):
        y = layer(x, (2, 3))
    state = torch.get_rng_state()
    grads = torch.autograd.grad(
        y.float().square().sum(), (x, *layer.ffn.parameters())
    )
    return y.detach(), grads, state


@pytest.mark.parametrize('mode', [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize('dtype', [None, torch.bfloat16])
@pytest.mark.parametrize('batch', [1, 64])
@pytest.mark.parametrize('rate', [0.0, 0.3])
def test_drop_path_is_that_of_the_module(rate, batch, dtype, mode):
    layer = randomise(build(TiedEncoderLayer, drop_path_rate=rate))
    if dtype is not None:  # in 16 bits its factors are drawn in float32
        layer.attn = NoAttention()
    called = copy.deepcopy(layer)
    called.drop_path = Called(rate)
    for each in (layer, called):
        each.train(mode[0]).drop_path.train(mode[1])
    x = torch.randn(batch, 6, D)
    tolerance = 1e-5 if dtype is None else 2 * torch.finfo(dtype).eps
    actual, expected = step(layer, x, dtype), step(called, x, dtype)
    for mine, theirs in zip(actual[1], expected[1]):
        assert mine.dtype == theirs.dtype
        assert (mine - theirs).norm() <= tolerance * theirs.norm()
    assert_close(actual[0], expected[0], atol=tolerance, rtol=tolerance)
    assert torch.equal(actual[2], expected[2])


def test_a_layer_of_16_bits_with_drop_path_stays_one():
    layer = build(TiedEncoderLayer, drop_path_rate=0.5).bfloat16().train()
    x = torch.randn(2, 6, D).bfloat16()
    assert layer(x, (2, 3)).dtype == torch.bfloat16


class Passes(TorchDispatchMode):
    """Counts operators that write a tensor of some shape."""

    def __init__(self, shape):
        super().__init__()
        self.shape, self.count = shape, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and not func.is_view:
            self.count += out.shape == self.shape
        return out


@pytest.mark.parametrize('dtype', [None, torch.bfloat16])
def test_drop_path_costs_no_pass_over_the_tokens(dtype):
    """Forward; the backward pass has one, for the branch's gradient."""
    x = torch.randn(4, 6, D, requires_grad=True)
    counts = []
    for rate in (0.0, 0.5):
        layer = build(TiedEncoderLayer, drop_path_rate=rate).train()
        saved = []
        with (
            torch.autocast('cpu', dtype, enabled=dtype is not None),
            torch.autograd.graph.saved_tensors_hooks(
                lambda t, saved=saved: saved.append(t.shape), lambda t: t
            ),
            Passes(x.shape) as passes,
        ):
            layer(x, (2, 3))
        counts.append((passes.count, saved.count(x.shape)))
    assert counts[0] == counts[1]


@pytest.mark.parametrize('cls', CLASSES)
def test_dropout_acts_in_training_only(cls):
    layer = randomise(build(cls, drop_rate=0.5)).eval()
    x = torch.randn(1, 6, D)
    expected = reference(layer, x)
    assert_close(layer(x, (2, 3)), expected, atol=1e-4, rtol=1e-4)
    for branch in (layer.attn, layer.ffn):
        branch.train()
        assert (layer(x, (2, 3)) - expected).abs().max() > 0.1
        branch.eval()


def test_parameter_counts():
    # biases of q, k, v, out (4 D), of the FFN (hidden + D), two norms (4 D)
    vectors = 4 * D + HIDDEN + D + 4 * D
    untied, tied = map(build, CLASSES)
    assert num_params(untied) == 4 * D * D + 2 * D * HIDDEN + vectors
    assert num_params(tied) == 2 * D * D + D * HIDDEN + vectors


@pytest.mark.parametrize('scale', [1.0, 0.5])
@pytest.mark.parametrize('cls', CLASSES)
def test_the_ffn_starts_xavier_with_small_biases(cls, scale):
    layer = build(cls, ffn_init_scale=scale)
    layer.init_weights()
    bound = scale * math.sqrt(6 / (D + HIDDEN))
    w1, b1, w2, b2 = ffn_matrices(layer)
    for weight in (w1, w2):
        assert 0.95 * bound < weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
    for bias in (b1, b2):
        assert 1e-7 < bias.std() < 2e-6


def test_three_matrices_are_tied():
    tied = [
        m
        for m in build(TiedEncoderLayer).modules()
        if isinstance(m, TiedLinear)
    ]
    assert [tuple(m.weight.shape) for m in tied] == [
        (D, D),
        (D, D),
        (HIDDEN, D),
    ]
    assert all(m.num_uses == 2 for m in tied)


@pytest.mark.parametrize('cls', CLASSES)
def test_only_matrices_are_decayed(cls):
    layer = build(cls)
    names = {n.rsplit('.', 1)[-1] for n, _ in layer.named_parameters()}
    assert names == {'weight', 'bias'}
    wrapper = build_optim_wrapper(
        layer,
        dict(
            optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
            paramwise_cfg=dict(norm_decay_mult=0, bias_decay_mult=0),
        ),
    )
    decays = {
        id(param): group['weight_decay']
        for group in wrapper.optimizer.param_groups
        for param in group['params']
    }
    for name, param in layer.named_parameters():
        expected = 0.0 if param.ndim == 1 else 0.05
        assert decays.pop(id(param)) == expected, name
    assert not decays
