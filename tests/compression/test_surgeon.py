"""The optimal brain surgeon, against brute force and against magnitudes."""

import copy
from itertools import combinations
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from halvit_mm.compression import (
    FiPSConfig,
    calibrate,
    factors,
    fips,
    plan_compression,
)
from halvit_mm.compression.activations import ActivationStore, capture
from halvit_mm.compression.surgeon import (
    measure,
    prune_columns,
    prune_entries,
)

from .models import GROUPS, HIDDEN, D, Net, batches, compress

M, N = 5, 7


def problem(seed=0):
    """A weight, (M, N), and a covariance that is far from diagonal."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(200, N, generator=generator, dtype=torch.float64)
    x = x @ torch.randn(N, N, generator=generator, dtype=torch.float64)
    weight = torch.randn(M, N, generator=generator, dtype=torch.float64)
    return weight, x.t() @ x / len(x)


def loss(change, hessian):
    return ((change @ hessian) * change).sum().item()


def refit(weight, hessian, kept):
    """The best weight (M, N) with only some columns."""
    kept = list(kept)
    both = weight @ hessian[:, kept]
    best = torch.zeros_like(weight)
    best[:, kept] = torch.linalg.solve(hessian[kept][:, kept], both.t()).t()
    return best


def test_columns_are_refitted_and_well_chosen():
    weight, hessian = problem()
    found, indices = prune_columns(weight, hessian, 4)
    full = torch.zeros_like(weight)
    full[:, indices] = found
    best = refit(weight, hessian, indices.tolist())
    assert loss(full - weight, hessian) == pytest.approx(
        loss(best - weight, hessian), rel=0.02
    )
    every = sorted(
        loss(refit(weight, hessian, kept) - weight, hessian)
        for kept in combinations(range(N), 4)
    )
    assert loss(best - weight, hessian) <= every[2]  # of 35


def test_entries_make_up_for_what_goes():
    """Row by row no mask does better with other values of its entries."""
    weight, hessian = problem(1)
    ones = torch.ones(M, dtype=torch.float64)
    first = torch.zeros(M, N, dtype=torch.bool)
    first[:, ::2] = True
    found, kept = prune_entries(weight, hessian, ones, first)
    assert kept.sum() == first.sum()
    assert torch.equal(found != 0, kept)
    zeroed = loss(weight * ~kept, hessian)
    assert loss(found - weight, hessian) < 0.8 * zeroed


def test_independent_inputs_need_no_surgeon():
    weight = problem()[0]
    first = weight.abs() > weight.abs().median()
    found, kept = prune_entries(
        weight, torch.eye(N).double(), torch.ones(M).double(), first
    )
    assert_close(found, weight * kept)
    assert torch.equal(kept, first)


def test_rounding_does_not_break_the_surgeon():
    """A covariance in float32, multiplied by bases, is not quite symmetric."""
    generator = torch.Generator().manual_seed(3)
    along = torch.randn(500, 1, generator=generator)
    x = along * torch.randn(64, generator=generator)  # nearly one direction
    x += 1e-3 * torch.randn(500, 64, generator=generator)
    rough = x.t() @ x / len(x)
    rough += 1e-4 * torch.randn(64, 64, generator=generator)
    weight = torch.randn(M, 64, generator=generator)
    first = weight.abs() > weight.abs().median()
    found, kept = prune_entries(weight, rough, torch.ones(M), first)
    assert found.isfinite().all() and kept.sum() == first.sum()


def captured(model, name, tmp_path):
    store = ActivationStore(tmp_path, 2**30)
    capture(model.eval(), [name], batches(), store)
    return store


def test_what_a_layer_sees(tmp_path):
    model, name = Net(), 'blocks.0.mlp'
    unit = model.get_submodule(name)
    store = captured(model, name, tmp_path)
    layers = dict(one=unit.fc1, two=unit.fc2)
    seen = measure(unit, layers, store, name)
    device = torch.device('cpu')
    calls = [store.get(name, i, device) for i in range(store.num_batches)]
    x = torch.cat([call.args[0].flatten(0, -2) for call in calls])
    energy = sum(call.output.square().sum() for call in calls)
    assert_close(seen['one'].mean, x.mean(0))
    assert_close(seen['one'].covariance, torch.cov(x.t(), correction=0))
    # the output itself: each squared error counts once
    count = torch.full((D,), float(len(x)))
    assert_close(seen['two'].row_weight, count / energy)
    # a hidden unit: what its gelu lets through, times what is written
    u = unit.fc1(x).detach().requires_grad_()
    (slope,) = torch.autograd.grad(nn.functional.gelu(u).sum(), u)
    exact = slope.square().sum(0) * unit.fc2.weight.square().sum(0) / energy
    assert_close(seen['one'].row_weight, exact, rtol=0.8, atol=0)
    assert seen['one'].row_weight.sum() == pytest.approx(
        exact.sum().item(), rel=0.2
    )
    assert all(not call.args[0].requires_grad for call in calls)


CONFIG = FiPSConfig(GROUPS, budget=0.6, sparsity=0.5, method='obs', epochs=0)


def test_factors_without_calibration_beat_magnitudes(tmp_path):
    data = batches(20)
    _, errors = compress(CONFIG, tmp_path / 'obs', Net(), data)
    static = FiPSConfig(
        GROUPS, budget=0.6, sparsity=0.5, method='static', epochs=0
    )
    _, before = compress(static, tmp_path / 'static', Net(), data)
    assert sum(e.after for e in errors) < 0.6 * sum(e.after for e in before)


def test_the_budget_is_met_and_groups_lose_alike(tmp_path):
    compression, errors = compress(CONFIG, tmp_path, Net(), batches(20))
    share = compression.parameters / compression.dense_parameters
    assert share == pytest.approx(0.6, abs=2e-3)
    assert [s.rank for s in compression.structures] == [D, D]
    for pair in (errors[:2], errors[2:]):
        low, high = sorted(error.before for error in pair)
        assert high < 2 * low
    for factor in factors(compression.model):
        assert torch.equal(factor.factor != 0, factor.weight.mask)


def test_a_low_rank_is_fitted_to_the_inputs(tmp_path):
    config = FiPSConfig(GROUPS, rank=6, sparsity=0.25, method='obs', epochs=0)
    compression, errors = compress(config, tmp_path, Net(), batches(20))
    assert [s.rank for s in compression.structures] == [6, 6]
    kept = sum(int(f.weight.mask.sum()) for f in factors(compression.model))
    assert kept == 2 * round(0.75 * 6 * 4 * HIDDEN)
    assert max(error.after for error in errors) < 0.9


def test_tied_layers_are_pruned_gradually_instead(monkeypatch):
    said = []
    monkeypatch.setattr(fips, 'say', lambda text, level: said.append(text))

    class TwoUses(nn.Linear):
        num_uses = 2

    model = Net()
    model.blocks[0].mlp.fc1.__class__ = TwoUses
    compression = plan_compression(model, CONFIG)
    assert compression.config.method == 'gmp'
    assert said[0].startswith('1 tied layers, such as blocks.0.mlp.fc1')


def test_it_goes_on_to_the_same_result(tmp_path):
    config = FiPSConfig(
        GROUPS,
        budget=0.6,
        sparsity=0.5,
        method='obs',
        epochs=2,
        lr=1e-3,
        save_interval=3,
    )
    whole, _ = compress(config, tmp_path / 'whole', Net(), batches())

    class Killed(BaseException):
        pass

    def kill(progress):
        if progress.step == 8:
            raise Killed

    folder = Path(tmp_path, 'killed')
    with pytest.raises(Killed):
        compress(config, folder, Net(), batches(), kill)
    again, _ = compress(config, folder, Net(), batches())
    assert_close(
        again.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0
    )


def test_held_out_images_are_only_measured(tmp_path):
    original = Net()
    compression = plan_compression(copy.deepcopy(original), CONFIG)
    compression.prepare()
    held_out = batches(3)
    errors = calibrate(
        original, compression, batches(20)[3:], tmp_path, held_out=held_out
    )
    for error in errors:
        assert 0 < error.held_out != error.after
