"""Settings: read from a mapping, refused where they make no sense."""

import math

import pytest

from halvit_mm.apis import load_config
from halvit_mm.compression import FiPSConfig
from tests.commands import ROOT

CONFIG = str(ROOT / 'configs/fips/vit_cifar10_fips.py')


def test_of_a_config():
    cfg = load_config(CONFIG)
    config = FiPSConfig.from_mapping(cfg.fips, budget=0.1, epochs=None)
    assert (config.budget, config.epochs) == (0.1, cfg.fips.get('epochs', 20))
    assert config.groups == tuple(cfg.fips.groups)
    assert config == FiPSConfig.from_mapping(dict(cfg.fips), budget=0.1)


def test_dense_means_that_nothing_is_pruned():
    """The rank alone meets the budget."""
    for sparsity in (0.75, 0.0):
        assert FiPSConfig('a', method='dense', sparsity=sparsity).sparsity == 0


def test_one_string_is_one_group():
    assert FiPSConfig('a.*').groups == FiPSConfig(['a.*']).groups == ('a.*',)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'fips.speed': 1}, r"unknown in fips=dict\(...\): \['speed'\]"),
        ({'fips.budget': 1.5}, 'budget=1.5 must be above 0 and at most 1'),
    ],
)
def test_configs_that_are_refused(options, message):
    cfg = load_config(CONFIG)
    cfg.merge_from_dict(options)  # as a file could have it
    with pytest.raises(ValueError, match=message):
        FiPSConfig.from_mapping(cfg.get('fips'))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(budget=0.0), 'budget=0.0 must be above 0 and at most 1'),
        (dict(sparsity=1.0), 'sparsity=1.0 must be at least 0 and below'),
        (dict(rank=0), 'rank=0 must be at least 1'),
        (dict(tau=0.0), 'tau=0.0 must be above 0 and finite'),
        (dict(tau=math.nan), 'tau=nan must be above 0 and finite'),
        (dict(lr=-1.0), 'lr=-1.0 must be at least 0 and finite'),
        (dict(lr=math.nan), 'lr=nan must be at least 0 and finite'),
        (dict(epochs=-1), 'epochs=-1 must be at least 0'),
        (dict(interval=0), 'interval=0 must be at least 1'),
        (dict(save_interval=0), 'save_interval=0 must be at least 1'),
        (dict(end=1.5), 'end=1.5 must be above 0 and at most 1'),
        (dict(num_batches=0), 'num_batches=0 must be at least 1'),
        (dict(batch_size=0), 'batch_size=0 must be at least 1'),
        (dict(svd='qr'), "svd='qr': choose one of"),
        (dict(growth='none'), "growth='none': choose one of"),
        (dict(method='iht'), "method='iht': choose one of"),
        (dict(prune_scope='all'), "prune_scope='all': choose one of"),
    ],
)
def test_values_that_are_refused(options, message):
    with pytest.raises(ValueError, match=rf'fips\.{message}'):
        FiPSConfig('a', **options)
