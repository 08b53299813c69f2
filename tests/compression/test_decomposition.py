"""Ranks by hand, SVD against its theory, growth."""

import pytest
import torch
from torch.testing import assert_close

from halvit_mm.compression.decomposition import (
    GROWTH,
    decompose,
    num_parameters,
    rank_for_budget,
)

M = torch.randn(8, 50, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ('budget', 'rank'),
    [(0.10, 273), (0.25, 682), (0.40, 1092), (0.50, 1365), (0.75, 2048)],
)
def test_ranks_of_deit_base(budget, rank):
    """FiPS, Sec. 3: groups of four blocks, two layers of d x 4d each."""
    dim, width = 768, 4 * 2 * 3072
    assert rank_for_budget(dim, width, budget, 0.75) == rank
    share = num_parameters(dim, width, rank, 0.75) / (dim * width)
    assert share == pytest.approx(budget, rel=5e-3)
    assert share <= budget


@pytest.mark.parametrize('budget', [0.1, 0.25, 0.75])
def test_scales_are_within_the_budget(budget):
    rank = rank_for_budget(768, 24576, budget, 0.75, scaled=True)
    size = num_parameters(768, 24576, rank, 0.75) + 24576
    assert 0.995 * budget < size / (768 * 24576) <= budget


@pytest.mark.parametrize(
    ('budget', 'sparsity', 'message'),
    [
        (1e-4, 0.5, r'a budget of 0.0001 cannot be met.*reach 0.0825 to 1'),
        (1.5, 0.5, 'a budget of 1.5 cannot be met'),
        (0.5, 1.0, 'sparsity=1.0'),
        (0.5, -0.1, 'sparsity=-0.1'),
    ],
)
def test_budgets_that_cannot_be_met(budget, sparsity, message):
    with pytest.raises(ValueError, match=message):
        rank_for_budget(8, 50, budget, sparsity)


def test_the_least_budget_is_that_of_rank_one():
    least = num_parameters(8, 50, 1, 0.5) / (8 * 50)
    assert rank_for_budget(8, 50, least, 0.5) == 1


@pytest.mark.parametrize('rank', [1, 3, 8])
def test_truncated_svd_is_the_best_of_its_rank(rank):
    parts = decompose(M, rank)
    assert parts.base.shape == (8, rank)
    assert parts.factor.shape == (rank, 50)
    values = torch.linalg.svdvals(M)
    lost = values[rank:].square().sum().sqrt() / M.norm()
    assert parts.error == pytest.approx(lost.item(), abs=1e-6)
    assert ((M - parts.base @ parts.factor).norm() / M.norm()).item() == (
        pytest.approx(parts.error, abs=1e-6)
    )
    assert_close(parts.base.T @ parts.base, torch.eye(rank))


def test_randomised_svd_comes_close():
    left = torch.randn(200, 10, generator=torch.Generator().manual_seed(1))
    right = torch.randn(10, 900, generator=torch.Generator().manual_seed(2))
    matrix = left @ right
    parts = decompose(matrix, 10, method='randomized')
    assert parts.error < 1e-5
    again = decompose(matrix, 10, method='randomized')
    assert torch.equal(parts.factor, again.factor)


@pytest.mark.parametrize('rank', [11, 8 + 8 + 3])
@pytest.mark.parametrize('growth', GROWTH)
def test_growth_beyond_d(growth, rank):
    parts = decompose(M, rank, growth=growth, tau=32)
    assert parts.base.shape == (8, rank)
    assert parts.factor.shape == (rank, 50)
    # whatever grows, the product is what it was
    assert_close(parts.base @ parts.factor, M, atol=1e-5, rtol=1e-5)
    full = decompose(M, 8)
    if growth == 'splitting':
        assert parts.base[:, 8:].norm() > 0
        copies = 3 if rank > 16 else 2
        assert_close(parts.factor[0], full.factor[0] / copies)
        assert_close(parts.factor[8], parts.factor[0])
        assert_close(parts.factor[7], full.factor[7] / (copies - 1))
        return
    assert parts.base[:, 8:].abs().max() == 0
    if growth == 'hybrid':
        assert_close(parts.factor[8:11], full.factor[:3] / 32)
        if rank > 16:
            assert_close(parts.factor[16:], full.factor[:3] / 32)
    else:
        std = parts.factor[8:].std().item()
        assert std == pytest.approx((2 / rank) ** 0.5, rel=0.3)
