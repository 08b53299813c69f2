"""Groups that would not become smaller stay dense, and that is said."""

import copy
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from halvit_mm.compression import (
    FiPSConfig,
    calibrate,
    factors,
    fips,
    load_compressed,
    plan_compression,
    prepare,
    save_compressed,
)

from .models import GROUPS, WIDTH, D, Net, batches, tokens


@pytest.fixture
def messages(monkeypatch):
    """Texts of the warnings so far."""
    texts = []
    monkeypatch.setattr(fips, 'say', lambda text, level: texts.append(text))
    return lambda: ' '.join(texts)


def test_the_whole_budget_keeps_the_model(tmp_path, messages):
    """The file is that of the original, and so is what it computes."""
    original = Net().eval()
    compression = prepare(
        copy.deepcopy(original), FiPSConfig(GROUPS, budget=1.0, epochs=1)
    )
    # r = floor(d P / (d + P / 4)) = 36 of 12; bytes of base, values and mask
    size = (4 * 36 * (D + WIDTH / 4) + 36 * WIDTH / 8) / (4 * D * WIDTH)
    assert 'group0: factorised (rank 36, sparsity 0.75) it would take ' in (
        messages()
    )
    assert f'{size:.1%} of the bytes of its dense weights' in messages()
    assert size > 1 and messages().count('it stays dense') == 2
    assert [s.name for s in compression.kept_dense] == ['group0', 'group1']
    assert not compression.groups and not list(factors(compression.model))
    assert calibrate(original, compression, batches(), tmp_path / 's') == []
    path = tmp_path / 'compressed.safetensors'
    save_compressed(compression.model, compression.structures, path)
    dense = tmp_path / 'dense.safetensors'
    save_file(original.state_dict(), dense)
    assert path.stat().st_size < dense.stat().st_size + 500  # the header
    twin = Net(seed=1).eval()
    load_compressed(twin, path)
    assert torch.equal(twin(tokens()), original(tokens()))


class TwoWidths(nn.Module):
    """One group for which the budget's factors are too large, one not."""

    def __init__(self):
        super().__init__()
        self.narrow, self.wide = nn.Linear(16, 1600), nn.Linear(64, 128)

    def forward(self, x):
        return self.wide(x) + self.narrow(x[..., :16]).mean()


def test_one_group_of_two(tmp_path, messages):
    original = TwoWidths()
    config = FiPSConfig(['narrow', 'wide'], budget=0.95, epochs=1)
    compression = prepare(copy.deepcopy(original), config)
    assert [s.name for s in compression.kept_dense] == ['group0']
    assert [s.name for s in compression.structures] == ['group1']
    assert messages().count('it stays dense') == 1
    data = [torch.randn(8, 64) for _ in range(2)]
    (error,) = calibrate(original, compression, data, tmp_path)
    assert error.name == 'wide'
    assert torch.equal(compression.model.narrow.weight, original.narrow.weight)


def test_a_rank_that_is_stated_is_used(messages):
    config = FiPSConfig(GROUPS, rank=2 * D, sparsity=0.0)
    compression = plan_compression(Net(), config)
    assert [s.rank for s in compression.structures] == [2 * D] * 2
    assert messages().count('the file becomes larger') == 2
    small = plan_compression(Net(), replace(config, rank=2))
    assert [s.rank for s in small.structures] == [2, 2]
    assert messages().count('larger') == 2
