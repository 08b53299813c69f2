"""Local error minimisation: what it minimises, and that it can be killed."""

import copy
import errno
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from halvit_mm.checkpoint import atomic_write
from halvit_mm.compression import (
    FiPSConfig,
    calibrate,
    factors,
    plan_compression,
    prepare,
    scopes_of,
)
from halvit_mm.compression.activations import ActivationStore, capture
from halvit_mm.compression.masks import flat, magnitudes_of
from halvit_mm.models import GroupedViT
from tests.helpers import assert_same_state, build

from . import models
from .models import GROUPS, Net, batches

CONFIG = FiPSConfig(
    GROUPS,
    budget=0.6,
    sparsity=0.5,
    epochs=6,
    lr=3e-3,
    interval=4,
    save_interval=3,
)


def compress(
    folder, config=CONFIG, report=lambda progress: None, data=5, seed=0
):
    compression, errors = models.compress(
        config, folder, Net(seed), batches(data), report
    )
    return compression.model, errors


def units_of(model):
    """Names of the units of the first group."""
    return [u.name for u in plan_compression(model, CONFIG).passes[0]]


def energy(model, original, names, data):
    """Relative error of units, by hand, fed the original's inputs."""
    found = {}
    for name in names:
        unit, twin = original.get_submodule(name), model.get_submodule(name)
        error = total = 0
        for batch in data:
            inputs = []
            handle = unit.register_forward_pre_hook(
                lambda _, args, inputs=inputs: inputs.append(args[0])
            )
            original(batch)
            handle.remove()
            expected = unit(inputs[0])
            error += (twin(inputs[0]) - expected).square().sum().item()
            total += expected.square().sum().item()
        found[name] = error / total
    return found


@pytest.mark.parametrize('scope', ['model', 'group', 'layer'])
@pytest.mark.parametrize('method', ['gmp', 'rigl', 'static', 'dense'])
def test_errors_fall(method, scope, tmp_path):
    config = replace(CONFIG, method=method, prune_scope=scope)
    model, errors = compress(tmp_path, config)
    assert [e.name for e in errors] == [f'blocks.{i}.mlp' for i in range(4)]
    before = sum(e.before for e in errors)
    assert sum(e.after for e in errors) < 0.9 * before
    by_hand = energy(model, Net(), [e.name for e in errors], batches())
    for error in errors:
        assert error.after == pytest.approx(by_hand[error.name], rel=1e-3)


def test_error_before_is_that_of_the_pruned_svd(tmp_path):
    _, errors = compress(tmp_path)
    model = Net()
    prepare(model, CONFIG)
    for found in scopes_of(list(factors(model)), 'group'):
        sizes = flat(found, magnitudes_of)
        limit = sizes.sort().values[len(sizes) - round(0.5 * len(sizes))]
        for factor in found:
            factor.weight.mask.copy_(factor.factor.abs() >= limit)
    by_hand = energy(model, Net(), [e.name for e in errors], batches())
    for error in errors:
        assert error.before == pytest.approx(by_hand[error.name], rel=1e-3)


def test_what_is_trained_and_what_is_not(tmp_path):
    model, _ = compress(tmp_path)
    before = Net().state_dict()
    for name, value in model.state_dict().items():
        if name in before:
            is_bias_of_a_unit = '.mlp.' in name and name.endswith('bias')
            assert torch.equal(value, before[name]) != is_bias_of_a_unit, name


class Killed(BaseException):
    """As SIGKILL, nothing catches it."""


@pytest.mark.parametrize('method', ['gmp', 'rigl'])
@pytest.mark.parametrize(
    ('scope', 'at'),  # the model's one pass has 30 steps
    [
        *(('model', at) for at in (1, 3, 14, 30)),
        *(('group', at) for at in (1, 3, 14, 30, 31, 44)),
    ],
)
def test_a_killed_run_goes_on_to_the_same_result(method, scope, at, tmp_path):
    config = replace(CONFIG, method=method, prune_scope=scope)
    calls = []

    def kill(progress):
        calls.append(progress)
        if len(calls) == at:
            raise Killed

    expected, errors = compress(tmp_path / 'whole', config)
    with pytest.raises(Killed):
        compress(tmp_path / 'killed', config, kill)
    resumed = []
    model, again = compress(tmp_path / 'killed', config, resumed.append)
    assert len(resumed) < (30 if scope == 'model' else 60) - at + 4
    assert again == errors
    assert_same_state(model, expected)
    # and a third call has nothing to do
    calls.clear()
    model, again = compress(tmp_path / 'killed', config, calls.append)
    assert not calls and again == errors
    assert_same_state(model, expected)


@pytest.mark.parametrize(
    'other',
    [
        dict(config=replace(CONFIG, lr=1.0)),
        dict(config=replace(CONFIG, growth='random')),
        dict(seed=1),
        dict(data=4),
    ],
)
def test_states_of_others_are_refused(other, tmp_path):
    """Of other settings, weights, images, options of the factorisation."""
    compress(tmp_path)
    with pytest.raises(ValueError, match='a state of other settings, weights'):
        compress(tmp_path, **other)


def test_the_sparsity_is_reached_without_any_step(tmp_path):
    model, _ = compress(tmp_path, replace(CONFIG, method='gmp', epochs=0))
    for scope in scopes_of(list(factors(model)), 'group'):
        mask = flat(scope, lambda factor: factor.weight.mask)
        assert mask.sum() == round(0.5 * len(mask))


def test_frozen_layers_are_calibrated_and_stay_frozen(tmp_path):
    original = Net()
    original.blocks[:2].requires_grad_(False)
    model = copy.deepcopy(original)
    compression = prepare(model, CONFIG)
    first, second = model.shared_bases.values()
    assert not first.weight.requires_grad and second.weight.requires_grad
    before = copy.deepcopy(model.state_dict())
    calibrate(original, compression, batches(), tmp_path)
    assert not torch.equal(before['shared_bases.group0.weight'], first.weight)
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad]
    assert 'shared_bases.group0.weight' in frozen
    assert all(p.grad is None for p in model.blocks[:2].parameters())


def test_activations_beyond_the_limit_go_to_files(tmp_path):
    original = Net()
    units = units_of(original)
    whole = ActivationStore(tmp_path / 'a', 2**30)
    little = ActivationStore(tmp_path / 'b', 5000)
    for store in (whole, little):
        capture(original.eval(), units, batches(), store)
    files = list((tmp_path / 'b').iterdir())
    assert 0 < len(files) < 10 and little.num_bytes <= 5000
    assert not (tmp_path / 'a').exists()
    for unit in units:
        for batch in range(5):
            one, other = (
                store.get(unit, batch, torch.device('cpu'))
                for store in (whole, little)
            )
            assert torch.equal(one.output, other.output)
            assert torch.equal(one.args[0], other.args[0])
            assert one.args[1:] == other.args[1:] == (None, (2, 3))
            assert_close(original.get_submodule(unit)(*one.args), one.output)
    little.clear()
    assert not list((tmp_path / 'b').iterdir())


def test_spilling_changes_nothing(tmp_path):
    one, errors = compress(tmp_path / 'a')
    two, again = compress(tmp_path / 'b', replace(CONFIG, memory_limit=0))
    assert errors == again
    assert_same_state(one, two)
    assert not list((tmp_path / 'b').glob('activations*/*'))


def test_activations_that_are_not_finite(tmp_path):
    original = Net()
    compression = prepare(copy.deepcopy(original), CONFIG)
    original.blocks[2].norm.bias.data[0] = torch.nan
    with pytest.raises(
        ValueError, match=r'put of blocks\.2\.mlp in batch 0.*not finite'
    ):
        calibrate(original, compression, batches(), tmp_path)


def test_what_follows_the_units_is_not_computed(tmp_path):
    model, seen = Net().eval(), []
    for i, block in enumerate(model.blocks):
        block.register_forward_hook(lambda *args, i=i: seen.append(i))
    store = ActivationStore(tmp_path, limit=2**30)
    capture(model, ['blocks.0.mlp', 'blocks.2.mlp'], batches(1), store)
    assert seen == [0, 1]  # the third ends inside of its MLP


def test_a_unit_that_layers_share_is_refused(tmp_path):
    """It is called more than once, of which one call would be learnt from."""
    model = build(GroupedViT, group_size=3).eval()
    store = ActivationStore(tmp_path, limit=2**30)
    with pytest.raises(ValueError, match=r'layers\.1\.ffn is the same module'):
        capture(model, ['layers.0.ffn'], [torch.zeros(1, 3, 32, 32)], store)


def test_units_that_are_not_called_once(tmp_path):
    original = Net()
    units = units_of(original)
    original.blocks[0].mlp.forward = lambda *args: 0
    original.forward = lambda x: x
    store = ActivationStore(tmp_path, 0)
    with pytest.raises(RuntimeError, match='mlp was called 0 times'):
        capture(original, units, batches(), store)


def test_a_full_disk_keeps_the_last_state(tmp_path, monkeypatch):
    path = tmp_path / 'state.pt'
    with atomic_write(path) as part:
        torch.save(dict(step=1), part)

    def full(*args):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr('os.fsync', full)
    with pytest.raises(OSError, match='No space left.*is kept'):
        with atomic_write(path) as part:
            torch.save(dict(step=2), part)
    assert torch.load(path, weights_only=True) == dict(step=1)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        # the first step is fine, what it leads to is not
        (
            dict(lr=1e30),
            r'pass 1, step 2: .*mlp is (inf|nan); fips\.lr=1e\+30',
        ),
        (
            dict(lr=1e30, prune_scope='model', epochs=1),
            r'pass 1, step 2: .*fips\.lr=1e\+30 is too large$',
        ),
        (
            dict(budget=0.8, sparsity=0.75, tau=1e-20),
            r'pass 1, step .*fips\.tau=1e-20 is too small',
        ),
    ],
)
def test_a_calibration_that_diverges(options, message, tmp_path):
    """It names pass and setting, and leaves no state of what is broken."""
    config = replace(CONFIG, save_interval=1, **options)
    with pytest.raises(ValueError, match=message):
        compress(tmp_path, config)
    assert not list(tmp_path.rglob('*.*'))


def test_the_second_pass_diverges(tmp_path):
    """What the first one gave is kept, for the same settings only."""
    original = Net()
    compression = prepare(copy.deepcopy(original), CONFIG)
    second = compression.groups[1].targets[0].module

    def spoil(progress):
        if progress.passes_done == 1:
            with torch.no_grad():
                second.bias.fill_(torch.nan)

    with pytest.raises(ValueError, match=r'pass 2, step 2: .*blocks\.2\.mlp'):
        calibrate(original, compression, batches(), tmp_path, spoil)
    assert [path.name for path in tmp_path.glob('*.pt')] == ['pass0.pt']


def test_factors_that_are_not_finite():
    config = replace(CONFIG, budget=0.8, sparsity=0.75, tau=1e-300)
    with pytest.raises(ValueError, match=r'group0: .*fips\.tau=1e-300'):
        prepare(Net(), config)
