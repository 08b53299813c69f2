"""One matrix, two maps."""

import copy

import pytest
import torch
from torch.testing import assert_close

from halvit_mm.models.layers import TiedLinear
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
    assert_close(layer.forward_transposed(y), y @ w + layer.transposed.bias)


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
    layer.forward_transposed(y).backward(g)
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
    assert layer.forward_transposed(torch.ones(1, OUT)).shape == (1, IN)


def test_the_transposed_bias_starts_at_zero():
    assert TiedLinear(IN, OUT).transposed_bias.tolist() == [0.0] * IN
