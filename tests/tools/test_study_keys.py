"""Kept results of the studies are found again.

A run is found by a digest of its whole config, so a key that is added to,
renamed in or dropped from a config makes every kept result worthless.
"""

import hashlib
import json

import pytest
import yaml
from study.plan import Study

from ..commands import ROOT


def kept(name):
    path = ROOT / 'docs' / 'studies' / name / 'results.json'
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    # nuclei: its configs were changed after it was run
    ('name', 'num_runs', 'num_kept', 'num_found'),
    [('cifar10', 22, 21, 21), ('nuclei', 4, 4, 0)],
)
def test_trainings(name, num_runs, num_kept, num_found):
    runs = Study.load(ROOT / 'configs' / 'studies' / f'{name}.yaml').runs
    keys = {run.key for run in runs}
    results = kept(name)
    found = [result['key'] in keys for result in results]
    assert (len(keys), len(found), sum(found)) == (
        num_runs,
        num_kept,
        num_found,
    )
    seeds = {(run.variant, run.seed) for run in runs}
    assert {(r['variant'], r['seed']) for r in results} <= seeds


@pytest.mark.parametrize(
    ('name', 'num_runs', 'digest'),
    [
        ('fips_cifar10', 43, 'c40997a61a8c2a7a'),
        ('fips_halvit_cifar10', 8, 'c46968562d3c87a3'),
    ],
)
def test_compressions(name, num_runs, digest, tmp_path):
    """Their keys hold the checkpoint's bytes too, which are not kept.

    So the keys for other bytes, all together, must stay what they were when
    the results were found.
    """
    content = yaml.safe_load(
        (ROOT / 'configs' / 'studies' / f'{name}.yaml').read_text()
    )
    checkpoint = tmp_path / 'weights.pth'
    checkpoint.write_bytes(b'weights')
    path = tmp_path / f'{name}.yaml'
    path.write_text(
        yaml.safe_dump(
            dict(content, checkpoint=str(checkpoint)), sort_keys=False
        )
    )
    runs = Study.load(path).runs
    keys = [run.key for run in runs]
    assert len(set(keys)) == num_runs
    assert hashlib.sha256(' '.join(keys).encode()).hexdigest()[:16] == digest
    of_runs = {(run.variant, run.budget, run.seed) for run in runs}
    results = kept(name)
    assert {(r['variant'], r['budget'], r['seed']) for r in results} == of_runs
