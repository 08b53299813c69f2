"""Local error minimisation: what it minimises, and that it can be killed."""

import copy
import errno

import pytest
import torch
from torch.testing import assert_close

from halvit_mm.checkpoint import atomic_write
from halvit_mm.compression import (
    Calibration,
    calibrate,
    factors,
    passes_of,
    prepare,
)
from halvit_mm.compression.activations import ActivationStore, capture

from .models import GROUPS, Net, batches

SETTINGS = Calibration(
    epochs=6, lr=3e-3, sparsity=0.5, interval=4, save_interval=3
)


def compress(
    folder,
    settings=SETTINGS,
    report=lambda progress: None,
    data=5,
    seed=0,
    key='',
):
    original = Net(seed)
    model = copy.deepcopy(original)
    sparsity = 0 if settings.method == 'dense' else settings.sparsity
    prepare(model, GROUPS, 0.6, sparsity)
    passes = passes_of(original, GROUPS, settings.prune_scope)
    errors = calibrate(
        model, original, passes, batches(data), settings, folder, report, key
    )
    return model, errors


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
    settings = SETTINGS._replace(method=method, prune_scope=scope)
    model, errors = compress(tmp_path, settings)
    assert [e.name for e in errors] == [f'blocks.{i}.mlp' for i in range(4)]
    before, after = (
        sum(getattr(e, key) for e in errors) for key in ('before', 'after')
    )
    assert after < 0.9 * before
    by_hand = energy(model, Net(), [e.name for e in errors], batches())
    for error in errors:
        assert error.after == pytest.approx(by_hand[error.name], rel=1e-3)


def test_error_before_is_that_of_the_pruned_svd(tmp_path):
    _, errors = compress(tmp_path)
    model = Net()
    prepare(model, GROUPS, 0.6, 0.5)
    for group in (('0', '1'), ('2', '3')):
        found = [f for f in factors(model) if f.name.split('.')[1] in group]
        sizes = torch.cat([f.factor.detach().abs().flatten() for f in found])
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
    settings = SETTINGS._replace(method=method, prune_scope=scope)
    calls = []

    def kill(progress):
        calls.append(progress)
        if len(calls) == at:
            raise Killed

    expected, errors = compress(tmp_path / 'whole', settings)
    with pytest.raises(Killed):
        compress(tmp_path / 'killed', settings, kill)
    resumed = []
    model, again = compress(tmp_path / 'killed', settings, resumed.append)
    assert len(resumed) < (30 if scope == 'model' else 60) - at + 4
    assert again == errors
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name]), name
    # and a third call has nothing to do
    calls.clear()
    model, again = compress(tmp_path / 'killed', settings, calls.append)
    assert not calls and again == errors
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name]), name


@pytest.mark.parametrize(
    'other',
    [
        dict(settings=SETTINGS._replace(lr=1.0)),
        dict(seed=1),
        dict(data=4),
        dict(key='growth=random'),
    ],
)
def test_states_of_others_are_refused(other, tmp_path):
    """Of other settings, weights, images, options of the factorisation."""
    compress(tmp_path)
    with pytest.raises(ValueError, match='a state of other settings, weights'):
        compress(tmp_path, **other)


@pytest.mark.parametrize('change', [dict(epochs=0), dict(end=2.0)])
def test_the_sparsity_is_reached_whatever_the_schedule(change, tmp_path):
    settings = SETTINGS._replace(method='gmp', **change)
    model, errors = compress(tmp_path, settings)
    for group in ('blocks.0 blocks.1', 'blocks.2 blocks.3'):
        masks = [
            f.weight.mask.flatten()
            for f in factors(model)
            if f.name.startswith(tuple(group.split()))
        ]
        mask = torch.cat(masks)
        assert mask.sum() == round(0.5 * len(mask))


def test_frozen_layers_are_calibrated_and_stay_frozen(tmp_path):
    original = Net()
    original.blocks[:2].requires_grad_(False)
    model = copy.deepcopy(original)
    prepare(model, GROUPS, 0.6, 0.5)
    first, second = model.shared_bases.values()
    assert not first.weight.requires_grad and second.weight.requires_grad
    passes = passes_of(original, GROUPS, 'group')
    before = copy.deepcopy(model.state_dict())
    calibrate(model, original, passes, batches(), SETTINGS, tmp_path)
    assert not torch.equal(before['shared_bases.group0.weight'], first.weight)
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad]
    assert 'shared_bases.group0.weight' in frozen
    assert all(p.grad is None for p in model.blocks[:2].parameters())


def test_activations_beyond_the_limit_go_to_files(tmp_path):
    original = Net()
    (units, _) = passes_of(original, GROUPS, 'group')
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
                store.get(unit.name, batch, torch.device('cpu'))
                for store in (whole, little)
            )
            assert torch.equal(one.output, other.output)
            assert torch.equal(one.args[0], other.args[0])
            assert one.args[1:] == other.args[1:] == (None, (2, 3))
            assert_close(unit.module(*one.args), one.output)
    little.clear()
    assert not list((tmp_path / 'b').iterdir())


def test_spilling_changes_nothing(tmp_path):
    one, errors = compress(tmp_path / 'a')
    two, again = compress(tmp_path / 'b', SETTINGS._replace(memory_limit=0))
    assert errors == again
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name])
    assert not list((tmp_path / 'b').glob('activations*/*'))


def test_activations_that_are_not_finite(tmp_path):
    original = Net()
    model = copy.deepcopy(original)
    prepare(model, GROUPS, 0.6, 0.5)
    original.blocks[2].norm.bias.data[0] = torch.nan
    passes = passes_of(original, GROUPS, 'group')
    with pytest.raises(
        ValueError, match=r'put of blocks\.2\.mlp in batch 0.*not finite'
    ):
        calibrate(model, original, passes, batches(), SETTINGS, tmp_path)


def test_units_that_are_not_called_once(tmp_path):
    original = Net()
    (units, _) = passes_of(original, GROUPS, 'group')
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
