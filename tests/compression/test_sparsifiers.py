"""Masks: exact counts after every change, schedules, what RigL grows."""

import pytest
import torch

from halvit_mm.compression import FiPSConfig, factors, prepare, scopes_of
from halvit_mm.compression.masks import flat, magnitudes_of
from halvit_mm.compression.schedulers import cosine, gmp_sparsity
from halvit_mm.compression.sparsifiers import METHODS, build_sparsifier

from .models import GROUPS, Net, tokens

STEPS = 40


def ready(method='gmp', scope='group', sparsity=0.75, **options):
    model = Net()
    prepare(model, FiPSConfig(GROUPS, budget=0.5, sparsity=sparsity))
    scopes = scopes_of(list(factors(model)), scope)
    options = {'interval': 4, **options}
    sparsifier = build_sparsifier(method, scopes, sparsity, STEPS, **options)
    return model, scopes, sparsifier


def mask_of(factor):
    return factor.weight.mask


def counts(scopes):
    """Entries kept and entries in all, of each scope."""
    masks = [flat(scope, mask_of) for scope in scopes]
    return [(int(mask.sum()), len(mask)) for mask in masks]


def train(model, sparsifier, after=lambda step: None):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    sparsifier.start()
    for step in range(1, STEPS + 1):
        sparsifier.before_step(step)
        optimizer.zero_grad()
        model(tokens(step)).square().mean().backward()
        optimizer.step()
        sparsifier.after_step(step)
        after(step)


def test_rigl_leaves_infinite_gradients_alone():
    model, (scope,), sparsifier = ready('rigl', 'model', 0.5, interval=1)
    sparsifier.start()
    before = flat(scope, mask_of)
    for scale, moves in ((torch.inf, False), (1.0, True)):
        sparsifier.before_step(1)
        (scale * model(tokens()).square().mean()).backward()
        sparsifier.after_step(1)
        assert torch.equal(flat(scope, mask_of), before) is not moves


def test_gmp_schedule():
    """25, 50 and 75 %, the cubic in between, nothing beyond the end."""
    assert gmp_sparsity(0, 400, 0.75) == pytest.approx(0.25)
    assert gmp_sparsity(100, 400, 0.75) == pytest.approx(0.5)
    assert gmp_sparsity(400, 400, 0.75) == 0.75
    assert gmp_sparsity(900, 400, 0.75) == 0.75
    expected = 0.75 - 0.25 * (1 - 150 / 300) ** 3
    assert gmp_sparsity(250, 400, 0.75) == pytest.approx(expected)
    values = [gmp_sparsity(t, 400, 0.75) for t in range(401)]
    assert values == sorted(values)
    assert cosine(0, 10, 0.3) == pytest.approx(0.3)
    assert cosine(5, 10, 0.3) == pytest.approx(0.15)
    assert cosine(10, 10, 0.3) == 0


@pytest.mark.parametrize('scope', ['model', 'group', 'layer'])
@pytest.mark.parametrize('sparsity', [0.75, 0.6])
@pytest.mark.parametrize('method', [m for m in METHODS if m != 'obs'])
def test_counts_are_exact_after_every_step(method, sparsity, scope):
    model, scopes, sparsifier = ready(method, scope, sparsity)
    assert len(scopes) == dict(model=1, group=2, layer=8)[scope]
    seen = []

    def check(step):
        seen.append(counts(scopes))
        at = 4 * (step // 4) if step < STEPS else STEPS
        for kept, total in seen[-1]:
            share = sparsity
            if method == 'gmp':
                share = gmp_sparsity(at, STEPS, sparsity)
            elif method == 'dense':
                share = 0
            assert kept == round((1 - share) * total)

    train(model, sparsifier, check)
    assert len(seen) == STEPS


def test_the_sparsity_is_reached_when_the_steps_end_early():
    model, scopes, sparsifier = ready('gmp', end=2.0)
    train(model, sparsifier)
    sparsifier.finish()
    for kept, total in counts(scopes):
        assert kept == round(0.25 * total)


def test_the_largest_entries_are_kept():
    _, scopes, sparsifier = ready('static')
    sparsifier.start()
    for scope in scopes:
        magnitudes, mask = flat(scope, magnitudes_of), flat(scope, mask_of)
        assert magnitudes[mask].min() >= magnitudes[~mask].max()


def test_ties_do_not_matter():
    _, scopes, sparsifier = ready('static')
    for scope in scopes:
        for factor in scope:
            factor.factor.data.fill_(1)
    sparsifier.start()
    for kept, total in counts(scopes):
        assert kept == round(0.25 * total)


def test_pruned_entries_get_no_gradient():
    model, _, sparsifier = ready('static')
    sparsifier.start()
    model(tokens()).square().sum().backward()
    for factor in factors(model):
        assert factor.factor.grad[~factor.weight.mask].abs().max() == 0
        assert factor.factor.grad[factor.weight.mask].abs().max() > 0


def test_rigl_drops_the_smallest_and_grows_by_the_gradient():
    model, (scope,), sparsifier = ready('rigl', 'model', ratio=0.2)
    sparsifier.start()
    old, size = flat(scope, mask_of), flat(scope, magnitudes_of)
    sparsifier.before_step(4)
    model(tokens()).square().sum().backward()
    dense = flat(scope, lambda factor: factor.weight.gradient.abs())
    sparsifier.after_step(4)
    new = flat(scope, mask_of)
    dropped, grown = old & ~new, new & ~old
    assert dropped.sum() == grown.sum() > 0
    number = int(cosine(4, int(0.75 * STEPS), 0.2) * int(old.sum()))
    smallest = size.masked_fill(~old, torch.inf).argsort()[:number]
    assert set(dropped.nonzero().flatten().tolist()) <= set(smallest.tolist())
    # nothing that stayed out had a larger gradient
    assert dense[grown].min() >= dense[~old & ~new].max()
    assert flat(scope, magnitudes_of)[grown].max() == 0
    assert all(f.weight.gradient is None for f in scope)


def test_rigl_rests_after_three_quarters():
    model, (scope,), sparsifier = ready('rigl', 'model')
    masks = {}

    def keep(step):
        masks[step] = flat(scope, mask_of)

    train(model, sparsifier, keep)
    last = int(0.75 * STEPS)
    assert not torch.equal(masks[1], masks[last - 1])
    assert torch.equal(masks[last], masks[STEPS])


def test_rigl_without_gradients():
    _, _, sparsifier = ready('rigl')
    sparsifier.start()
    sparsifier.before_step(4)
    with pytest.raises(RuntimeError, match=r'no gradient reached.*blocks\.0'):
        sparsifier.after_step(4)


def test_unknown():
    with pytest.raises(ValueError, match="prune_scope='all': choose"):
        scopes_of([], 'all')
    with pytest.raises(ValueError, match="method='iht': choose"):
        build_sparsifier('iht', [], 0.5, 1)
