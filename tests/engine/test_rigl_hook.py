"""RigL in a training: what is frozen keeps its entries."""

from types import SimpleNamespace

import pytest
import torch

from halvit_mm.compression import FiPSConfig, factors, prepare
from halvit_mm.engine import RigLHook
from tests.compression.models import GROUPS, Net, tokens


def step(hook, model):
    """One iteration without an optimiser."""
    runner = SimpleNamespace(model=model, max_iters=10, iter=0)
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)
    model(tokens()).square().mean().backward()
    hook.after_train_iter(runner, 0)


def test_frozen_layers_keep_their_entries():
    model = Net()
    model.blocks[:2].requires_grad_(False)
    prepare(model, FiPSConfig(GROUPS))
    for factor in factors(model):
        factor.weight.mask[::2] = False
    before = [factor.weight.mask.clone() for factor in factors(model)]
    step(RigLHook(interval=1), model)
    moved = [
        not torch.equal(factor.weight.mask, mask)
        for factor, mask in zip(factors(model), before)
    ]
    assert moved[:4] == [False] * 4 and any(moved[4:])


@pytest.mark.parametrize('compressed', [False, True])
def test_nothing_to_move(compressed):
    model = Net()
    if compressed:
        prepare(model, FiPSConfig(GROUPS))
        model.requires_grad_(False)
    with pytest.raises(ValueError, match='no sparse factors that are trained'):
        step(RigLHook(), model)
