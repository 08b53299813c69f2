"""A backbone whose features stop depending on the image is told."""

import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from halvit_mm.engine import FeatureCollapseHook
from halvit_mm.engine.feature_collapse import (
    energy_shares,
    means_and_energies,
)

from .tiny_run import tiny_runner


def shares(*maps):
    return energy_shares([means_and_energies(x) for x in maps])


def test_shares_of_the_energy():
    constant = torch.ones(2, 3, 1, 1).expand(2, 3, 4, 4)
    assert shares(constant) == pytest.approx((0, 0), abs=1e-6)
    assert shares(0 * constant) == (0, 0)
    centred = torch.randn(64, 3, 32, 32)
    assert shares(centred) == pytest.approx((1, 0), abs=2e-3)
    # mean 1, variance 1: half of the energy; the same of tokens
    half = centred + 1
    assert shares(half) == pytest.approx((0.5, 0), abs=0.01)
    assert shares(half.flatten(2).mT) == pytest.approx(shares(half))
    # two images, each constant: all is between them, in one batch or two
    two = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    assert shares(two) == pytest.approx((1, 1))
    assert shares(two[:1], two[1:]) == pytest.approx((1, 1))
    # the same map for every image
    same = torch.randn(1, 3, 8, 8).expand(4, 3, 8, 8)
    varying, between = shares(same)
    assert between == pytest.approx(0, abs=1e-6) and varying > 0.9


class Backbone(nn.Module):
    """Adds a constant that grows, as a rate that is too high makes it.

    Or, with ``forgets``, gives a map that is the same for every image.
    """

    def __init__(self, growth, forgets=False):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.growth, self.forgets, self.steps = growth, forgets, 0
        self.layers = [self] * 7

    def forward(self, x):
        self.steps += self.training
        if self.forgets and self.steps > 3:
            x = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).expand_as(x)
        return (self.weight * x + self.growth * self.steps,)


class Model(BaseModel):
    def __init__(self, *args):
        super().__init__()
        self.backbone = Backbone(*args)

    def forward(self, inputs, mode='tensor'):
        (x,) = self.backbone(inputs.view(-1, 1, 2, 2))
        return dict(loss=1e-6 * x.square().mean())


def train(folder, caplog, *args):
    """What is said of a training of 16 steps."""
    runner = tiny_runner(
        folder, dict(interval=9), model=Model(*args), epochs=4
    )
    runner.register_hook(FeatureCollapseHook(interval=1))
    runner.logger.addHandler(caplog.handler)
    runner.train()
    runner.logger.removeHandler(caplog.handler)
    return [r.message for r in caplog.records if 'hardly' in r.message]


def test_a_collapse_is_told_once(tmp_path, caplog):
    (message,) = train(tmp_path, caplog, 2.0)
    assert 'the backbone hardly depend on the image any more (st' in message
    assert 'model.backbone.frozen_stages=7' in message
    assert 'varying_share is' in message


def test_the_same_map_for_every_image_is_told(tmp_path, caplog):
    (message,) = train(tmp_path, caplog, 0.0, True)
    assert 'share_between_images is 0.00%' in message


def test_features_that_depend_on_the_image_are_not(tmp_path, caplog):
    assert train(tmp_path, caplog, 0.0) == []


def test_a_frozen_backbone_is_not_looked_at(tmp_path, caplog):
    hook = FeatureCollapseHook()
    runner = tiny_runner(tmp_path, dict(interval=9), model=Model(2.0))
    runner.model.backbone.weight.requires_grad = False
    hook.before_train(runner)
    assert not runner.model.backbone._forward_hooks


def test_validation_is_not_measured(tmp_path):
    runner = tiny_runner(tmp_path, dict(interval=9), model=Model(0.0))
    hook = FeatureCollapseHook(interval=1)
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)
    for training in (False, True):
        runner.model.train(training)
        runner.model(torch.randn(2, 4))
        assert (hook._last is not None) == training
