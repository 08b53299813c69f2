"""Results of a tiny compression, as recorded once: they stay the same.

In double precision, so that masks do not depend on the order of sums.
"""

import hashlib

import pytest
import torch

from halvit_mm.compression import FiPSConfig, factors

from .models import GROUPS, Net, batches, compress

COMMON = dict(epochs=6, lr=3e-3, interval=4)

#: Settings; rank of both groups; digest of all masks; each unit's error
#: before calibration and after it.
RECORDED = {
    'gmp': (
        dict(budget=0.6, sparsity=0.5),
        12,
        'ca97a27c3f271b61',
        [
            (0.125758465, 0.0585024234),
            (0.25172043, 0.0955759336),
            (0.0904003015, 0.038778322),
            (0.171363879, 0.0785575879),
        ],
    ),
    'gmp, scaled, over the model': (
        dict(budget=0.6, sparsity=0.5, scaled=True, prune_scope='model'),
        10,
        '092d828caf888dc3',
        [
            (0.258918675, 0.14862189),
            (0.287721621, 0.192280796),
            (0.237318479, 0.104608764),
            (0.370568311, 0.23646381),
        ],
    ),
    'gmp, split, ends early': (
        dict(budget=0.8, sparsity=0.75, growth='splitting', end=0.75),
        29,
        None,  # copies tie: which of them stays depends on the machine
        [
            (0.447502995, 0.204146658),
            (0.776515312, 0.323348578),
            (0.425676504, 0.172993715),
            (0.594800204, 0.329828707),
        ],
    ),
    'rigl, within layers': (
        dict(budget=0.5, sparsity=0.75, method='rigl', prune_scope='layer'),
        18,
        'bd988fb94daeb520',
        [
            (0.196022623, 0.0934489477),
            (0.370869764, 0.155716125),
            (0.14498246, 0.049238009),
            (0.286083021, 0.141032638),
        ],
    ),
    'static, grown at random': (
        dict(
            budget=0.7, sparsity=0.75, method='static', growth='random', seed=3
        ),
        25,
        '5449f371e819f535',
        [
            (0.768723672, 0.326487384),
            (0.92029044, 0.541303655),
            (0.735372866, 0.26934249),
            (0.925909178, 0.556803336),
        ],
    ),
    'dense': (
        dict(budget=0.6, sparsity=0.0, method='dense'),
        6,
        'f8571cd81558b8e4',
        [
            (0.498900551, 0.352868679),
            (0.601895625, 0.490779768),
            (0.472794332, 0.307769302),
            (0.692797637, 0.515469998),
        ],
    ),
}


@pytest.mark.parametrize('case', RECORDED)
def test_recorded(case, tmp_path):
    options, rank, masks, expected = RECORDED[case]
    config = FiPSConfig(GROUPS, **COMMON, **options)
    data = [batch.double() for batch in batches()]
    compression, errors = compress(config, tmp_path, Net().double(), data)
    assert [found.rank for found in compression.structures] == [rank, rank]
    digest = hashlib.sha256()
    for factor in factors(compression.model):
        digest.update(factor.weight.mask.to(torch.uint8).numpy().tobytes())
    assert masks in (None, digest.hexdigest()[:16])
    assert [error.name for error in errors] == [
        f'blocks.{i}.mlp' for i in range(4)
    ]
    for error, (before, after) in zip(errors, expected):
        assert error.before == pytest.approx(before, rel=1e-6)
        assert error.after == pytest.approx(after, rel=1e-6)
