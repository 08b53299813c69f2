"""A backbone whose features stop depending on the image is told."""

import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from halvit_mm.engine import FeatureCollapseHook, varying_share

from .tiny_run import tiny_runner


def test_the_share_that_varies():
    constant = torch.ones(2, 3, 1, 1).expand(2, 3, 4, 4)
    assert varying_share(constant) == pytest.approx(0, abs=1e-6)
    centred = torch.randn(64, 3, 32, 32)
    assert varying_share(centred) == pytest.approx(1, abs=1e-3)
    # mean 1, variance 1: half of the energy; the same of tokens
    half = centred + 1
    assert varying_share(half) == pytest.approx(0.5, abs=0.01)
    tokens = half.flatten(2).mT
    assert varying_share(tokens) == pytest.approx(varying_share(half).item())
    # two images, each constant: it varies between them
    two = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    assert varying_share(two) == pytest.approx(1)


class Backbone(nn.Module):
    """Adds a constant that grows, as a rate that is too high makes it."""

    def __init__(self, growth):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.growth, self.steps = growth, 0

    def forward(self, x):
        self.steps += self.training
        return (self.weight * x + self.growth * self.steps,)


class Model(BaseModel):
    def __init__(self, growth):
        super().__init__()
        self.backbone = Backbone(growth)

    def forward(self, inputs, mode='tensor'):
        (x,) = self.backbone(inputs.view(-1, 1, 2, 2))
        return dict(loss=1e-6 * x.square().mean())


def train(folder, caplog, growth):
    """What is said of a training of 12 steps."""
    runner = tiny_runner(folder, dict(interval=9), model=Model(growth))
    runner.register_hook(FeatureCollapseHook(interval=1))
    runner.logger.addHandler(caplog.handler)
    runner.train()
    runner.logger.removeHandler(caplog.handler)
    return [r.message for r in caplog.records if 'hardly' in r.message]


def test_a_collapse_is_told_once(tmp_path, caplog):
    (message,) = train(tmp_path, caplog, growth=2.0)
    assert 'the backbone hardly depend on the image any more (st' in message
    assert 'model.backbone.frozen_stages=12' in message


def test_features_that_depend_on_the_image_are_not(tmp_path, caplog):
    assert train(tmp_path, caplog, growth=0.0) == []


def test_a_frozen_backbone_is_not_looked_at(tmp_path, caplog):
    hook = FeatureCollapseHook()
    runner = tiny_runner(tmp_path, dict(interval=9), model=Model(2.0))
    runner.model.backbone.weight.requires_grad = False
    hook.before_train(runner)
    assert not runner.model.backbone._forward_hooks
