"""Averaged weights of a compressed model: no product of earlier weights."""

import copy

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.model import ExponentialMovingAverage
from torch.optim.swa_utils import AveragedModel
from torch.testing import assert_close

from halvit_mm.compression import FiPSConfig, convert, factors, prepare

from .models import GROUPS, Net, tokens


@pytest.fixture
def model():
    """A compressed model whose products are kept."""
    net = Net().eval()
    prepare(net, FiPSConfig(GROUPS))
    with torch.no_grad():
        net(tokens())
    return net


@torch.no_grad()
def expected(model):
    """What a model computes whose products are multiplied now."""
    twin = copy.deepcopy(model)
    convert(twin)
    return twin(tokens())


@torch.no_grad()
def change(model):
    for parameter in model.parameters():
        parameter.mul_(1.1)


@pytest.mark.parametrize('update_buffers', [False, True])
@torch.no_grad()
def test_moving_average(update_buffers, model):
    averaged = ExponentialMovingAverage(
        model, momentum=0.5, update_buffers=update_buffers
    ).eval()
    for _ in range(3):
        averaged.update_parameters(model)
        before = averaged(tokens())
        change(model)
        averaged.update_parameters(model)
        after = averaged(tokens())
        assert not torch.equal(after, before)
        assert_close(after, expected(averaged.module))


@torch.no_grad()
def test_average_of_pytorch(model):
    averaged = AveragedModel(model).eval()
    for _ in range(3):
        averaged.update_parameters(model)
        assert_close(averaged(tokens()), expected(averaged.module))
        change(model)


@torch.no_grad()
def test_a_hook_swaps_weights(model):
    """As the host's loops do it: swap, eval(), batches."""
    hook = EMAHook()
    hook.src_model = model
    hook.ema_model = ExponentialMovingAverage(model, momentum=0.5)
    hook.ema_model.eval()
    hook.ema_model.update_parameters(model)
    own = model(tokens())
    change(model)
    hook.ema_model.update_parameters(model)
    for _ in range(2):
        hook._swap_ema_parameters()
        for net in (model.eval(), hook.ema_model.module):
            assert_close(net(tokens()), expected(net))
    assert not torch.equal(model(tokens()), own)


CHANGES = {
    'train': lambda net: net.train().eval(),
    'load_state_dict': lambda net: net.load_state_dict(net.state_dict()),
    '_apply': lambda net: net.float(),
}


@pytest.mark.parametrize('drop', CHANGES)
@torch.no_grad()
def test_what_drops_a_kept_product(drop, model):
    """After a write that no version counter tells of."""
    for factor in factors(model):
        factor.factor.data.mul_(2)
    CHANGES[drop](model)
    assert_close(model(tokens()), expected(model))


@torch.no_grad()
def test_copies_compute_the_same_under_autocast(model):
    """They multiply in the weights' dtype, as the original does."""
    twin = copy.deepcopy(model)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(twin(tokens()), model(tokens()))
    for factor in factors(twin):
        assert factor.module.weight is not factor.module.weight
    for factor in factors(model):
        assert factor.module.weight is factor.module.weight
