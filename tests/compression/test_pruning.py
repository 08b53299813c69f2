"""Structured pruning: widths, what stays, the error, what is refused."""

import copy

import pytest
import torch
from torch import nn

from halvit_mm.compression import (
    PruneConfig,
    calibrate,
    plan_pruning,
)

from .models import GROUPS, HIDDEN, D, Net, batches

CONFIG = PruneConfig(GROUPS, budget=0.6, epochs=0)


def prune(folder, original, config=CONFIG, data=20):
    pruning = plan_pruning(copy.deepcopy(original), config)
    pruning.prepare()
    errors = calibrate(original, pruning, batches(data), folder)
    return pruning, errors


def test_widths_and_counts(tmp_path):
    pruning, _ = prune(tmp_path, Net())
    mlp = pruning.model.blocks[2].mlp
    assert mlp.fc1.weight.shape == (24, D)  # 0.6 of 40, a multiple of 8
    assert (mlp.fc1.out_features, mlp.fc2.in_features) == (24, 24)
    assert pruning.dense_parameters == 4 * 2 * D * HIDDEN
    assert pruning.parameters == 4 * 2 * D * 24
    assert pruning.row_of('blocks.2.mlp') == {'hidden units': '24 of 40'}
    assert pruning.share_of('blocks.2.mlp') == 0.6


def test_units_that_do_nothing_go_and_nothing_is_lost(tmp_path):
    """Units that write nothing, or that a bias can stand for."""
    original = Net()
    for block in original.blocks:
        block.mlp.fc2.weight.data[:, :8] = 0
        block.mlp.fc1.weight.data[8:16] = 0  # they are constant
    _, errors = prune(tmp_path, original)
    assert max(error.after for error in errors) < 1e-9


def test_a_copy_of_a_unit_is_made_up_for(tmp_path):
    """Twins write what both wrote, once one of them has gone."""
    original = Net()
    for block in original.blocks:
        half = block.mlp.fc1.weight.data[:20]
        block.mlp.fc1.weight.data[20:] = half
        block.mlp.fc1.bias.data[20:] = block.mlp.fc1.bias.data[:20]
    _, errors = prune(tmp_path, original)
    assert max(error.after for error in errors) < 1e-3


def test_calibration_helps(tmp_path):
    config = PruneConfig(GROUPS, budget=0.4, epochs=10, lr=1e-3)
    _, errors = prune(tmp_path, Net(), config)
    for error in errors:
        assert error.after < 0.8 * error.before


def test_it_goes_on_to_the_same_result(tmp_path):
    config = PruneConfig(GROUPS, budget=0.4, epochs=2, save_interval=3)
    whole, errors = prune(tmp_path / 'a', Net(), config)
    for state in (tmp_path / 'a').glob('pass1.pt'):
        state.unlink()  # as if it had been killed after the first pass
    again, same = prune(tmp_path / 'a', Net(), config)
    assert errors == same
    for a, b in zip(whole.model.parameters(), again.model.parameters()):
        assert torch.equal(a, b)


def test_what_is_refused():
    with pytest.raises(ValueError, match='FFNs only'):
        plan_pruning(Net(), PruneConfig(GROUPS, attention=True))
    with pytest.raises(ValueError, match='prune treats FFNs of two matrices'):
        plan_pruning(Net(), PruneConfig([r'blocks\.0\.mlp\.fc1']))
    with pytest.raises(ValueError, match='none of the 40 .* at least 0.2000'):
        plan_pruning(Net(), PruneConfig(GROUPS, budget=0.05))
    model = Net()
    model.blocks[0].mlp.fc2 = nn.Linear(HIDDEN, D, bias=False)
    with pytest.raises(ValueError, match='has no biases'):
        plan_pruning(model, PruneConfig(GROUPS))
