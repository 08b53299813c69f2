"""Windows: cut, put together, and what in them is real."""

import pytest
import torch

from halvit_mm.models.layers.window import (
    window_padding_mask,
    window_partition,
    window_unpartition,
)

GRIDS = [(1, 1), (4, 4), (6, 4), (5, 7), (7, 5), (3, 8), (2, 9)]


def tokens(hw, batch=2, heads=3, channels=2):
    return torch.randn(batch, heads, hw[0] * hw[1], channels)


@pytest.mark.parametrize('window_size', [1, 2, 3, 4, 10])
@pytest.mark.parametrize('hw', GRIDS)
def test_round_trip(hw, window_size):
    x = tokens(hw)
    windows = window_partition(x, hw, window_size)
    num_windows = -(-hw[0] // window_size) * -(-hw[1] // window_size)
    assert windows.shape == (2 * num_windows, 3, window_size**2, 2)
    assert torch.equal(window_unpartition(windows, hw, window_size), x)


def test_windows_are_neighbourhoods():
    # 0 1 2   cut by 2: [0 1 3 4], [2 . 5 .], padded with zeros
    # 3 4 5
    grid = torch.arange(1.0, 7.0).reshape(1, 1, 6, 1)
    windows = window_partition(grid, (2, 3), 2)
    assert windows.squeeze().tolist() == [[1, 2, 4, 5], [3, 0, 6, 0]]


def test_the_windows_of_an_image_stand_together():
    x = tokens((4, 6))
    windows = window_partition(x, (4, 6), 2)
    assert torch.equal(windows[6:], window_partition(x[1:], (4, 6), 2))


@pytest.mark.parametrize('hw', [(4, 4), (6, 4), (2, 2)])
def test_no_mask_where_windows_fit(hw):
    assert window_padding_mask(hw, 2, torch.device('cpu')) is None


@pytest.mark.parametrize('window_size', [2, 4, 10])
@pytest.mark.parametrize('hw', [(5, 7), (7, 4), (3, 8)])
def test_the_mask_is_true_for_real_tokens_only(hw, window_size):
    mask = window_padding_mask(hw, window_size, torch.device('cpu'))
    ones = torch.ones(1, 1, hw[0] * hw[1], 1)
    real = window_partition(ones, hw, window_size)
    assert mask.dtype == torch.bool
    assert mask.sum() == hw[0] * hw[1]
    assert torch.equal(mask, real.bool().transpose(2, 3))
    assert mask.any(dim=-1).all()  # a window of padding alone gives NaN
