"""Windows over a token grid, as pure functions.

Shapes: B batch, h heads, H x W tokens (row by row), d channels of a head,
w window side, N = ceil(H / w) * ceil(W / w) windows an image.
"""

from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ['window_partition', 'window_padding_mask', 'window_unpartition']

Grid = Tuple[int, int]


def _padded(hw: Grid, window_size: int) -> Grid:
    h, w = (-(-side // window_size) * window_size for side in hw)
    return h, w


def window_partition(x: Tensor, hw: Grid, window_size: int) -> Tensor:
    """Cut the grid into windows, zero-padded at the bottom and the right.

    Args:
        x: (B, h, H * W, d).
        hw: H and W.
        window_size: w.

    Returns:
        (B * N, h, w * w, d).
    """
    B, h, _, d = x.shape
    s, (H, W), (Hp, Wp) = window_size, hw, _padded(hw, window_size)
    x = F.pad(x.reshape(B, h, H, W, d), (0, 0, 0, Wp - W, 0, Hp - H))
    x = x.reshape(B, h, Hp // s, s, Wp // s, s, d)
    return x.permute(0, 2, 4, 1, 3, 5, 6).reshape(-1, h, s * s, d)


def window_unpartition(x: Tensor, hw: Grid, window_size: int) -> Tensor:
    """Undo :func:`window_partition` and drop the padding.

    Args:
        x: (B * N, h, w * w, d).
        hw: H and W.
        window_size: w.

    Returns:
        (B, h, H * W, d).
    """
    h, d = x.shape[1], x.shape[3]
    s, (H, W), (Hp, Wp) = window_size, hw, _padded(hw, window_size)
    x = x.reshape(-1, Hp // s, Wp // s, h, s, s, d)
    x = x.permute(0, 3, 1, 4, 2, 5, 6).reshape(-1, h, Hp, Wp, d)
    return x[:, :, :H, :W].reshape(-1, h, H * W, d)


def window_padding_mask(
    hw: Grid, window_size: int, device: torch.device
) -> Optional[Tensor]:
    """Which tokens of each window are real: padding is never attended to.

    Args:
        hw: H and W.
        window_size: w.
        device: Where the mask is made.

    Returns:
        Bool, (N, 1, 1, w * w), or None where the windows fit the grid.
    """
    if _padded(hw, window_size) == tuple(hw):
        return None
    real = torch.ones(1, 1, hw[0] * hw[1], 1, device=device)
    windows = window_partition(real, hw, window_size)
    return windows.bool().transpose(2, 3)
