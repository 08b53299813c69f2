"""One matrix, two maps."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from halvit_mm.models.layers import RepeatedLinear, TiedLinear
from halvit_mm.models.layers.tied_linear import tied_linear_in
from tests.helpers import assert_one_owner, randomise

IN, OUT = 4, 7


def reload(layer):
    layer.load_state_dict(randomise(TiedLinear(IN, OUT)).state_dict())
    return layer


CHANGES = {
    'none': lambda layer: layer,
    'deepcopy': copy.deepcopy,
    'load_state_dict': reload,
    'to': lambda layer: layer.to(torch.float64),
}


@pytest.mark.parametrize('change', CHANGES)
def test_both_maps_read_the_one_weight(change):
    layer = CHANGES[change](randomise(TiedLinear(IN, OUT)))
    assert_one_owner(layer)
    assert list(layer.state_dict()) == ['weight', 'bias', 'transposed.bias']
    w = layer.weight
    x, y = torch.randn(3, IN).to(w), torch.randn(3, OUT).to(w)
    assert_close(layer(x), x @ w.T + layer.bias)
    assert_close(layer.forward_second(y), y @ w + layer.transposed.bias)


def test_a_repeated_layer_applies_the_weight_itself_twice():
    layer = randomise(RepeatedLinear(IN))
    assert list(layer.state_dict()) == ['weight', 'bias', 'again.bias']
    x = torch.randn(3, IN)
    assert_close(layer(x), x @ layer.weight.T + layer.bias)
    second = x @ layer.weight.T + layer.again.bias
    assert_close(layer.forward_second(x), second)
    assert tied_linear_in(nn.Sequential(layer)) is layer
    with pytest.raises(ValueError, match='Linear .* used a second time. L'):
        tied_linear_in(nn.Linear(IN, IN))


@pytest.mark.parametrize('change', ['load_state_dict', 'to'])
def test_the_parameter_stays_the_same_object(change):
    layer = TiedLinear(IN, OUT)
    weight = layer.weight
    assert CHANGES[change](layer).weight is weight


def test_a_copy_has_its_own_weight():
    layer = TiedLinear(IN, OUT)
    twin = copy.deepcopy(layer)
    twin.weight.data.zero_()
    assert layer.weight.abs().sum() > 0


def test_gradients_of_both_maps_add_up():
    layer = randomise(TiedLinear(IN, OUT))
    x, g = torch.randn(3, IN), torch.randn(3, IN)
    y = layer(x)
    layer.forward_second(y).backward(g)
    dy = g @ layer.weight.T
    assert_close(layer.weight.grad, dy.T @ x + y.T @ g)


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('transposed_bias', [True, False])
def test_biases_are_optional(bias, transposed_bias):
    layer = TiedLinear(IN, OUT, bias, transposed_bias)
    names = [
        'weight',
        *['bias'] * bias,
        *['transposed.bias'] * transposed_bias,
    ]
    assert [name for name, _ in layer.named_parameters()] == names
    assert (layer.transposed_bias is not None) == transposed_bias
    assert layer.forward_second(torch.ones(1, OUT)).shape == (1, IN)


def test_the_transposed_bias_starts_at_zero():
    assert TiedLinear(IN, OUT).transposed_bias.tolist() == [0.0] * IN
