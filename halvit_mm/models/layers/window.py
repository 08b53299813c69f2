"""Windows over a token grid, as pure functions.

Shapes: B batch, h heads, H x W tokens (row by row), d channels of a head,
w window side, N = R * C windows an image, R = ceil(H / w), C = ceil(W / w).
"""

from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

Grid = Tuple[int, int]


def is_dynamic(hw: Grid) -> bool:
    """Tell whether a grid is one of any size, while a model is exported.

    Args:
        hw: Height and width in tokens.

    Returns:
        True where they are symbols: nothing may depend on their values.
    """
    return any(type(side) is not int for side in hw)


def _num_windows(hw: Grid, window_size: int) -> Grid:
    # Rounded up without a negative number: ONNX would round that to zero.
    rows, columns = ((side + window_size - 1) // window_size for side in hw)
    return rows, columns


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
    s, (H, W), (R, C) = window_size, hw, _num_windows(hw, window_size)
    x = F.pad(x.reshape(B, h, H, W, d), (0, 0, 0, C * s - W, 0, R * s - H))
    x = x.reshape(B, h, R, s, C, s, d).permute(0, 2, 4, 1, 3, 5, 6)
    return x.reshape(B * R * C, h, s * s, d)


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
    s, (H, W), (R, C) = window_size, hw, _num_windows(hw, window_size)
    B = x.shape[0] // (R * C)
    x = x.reshape(B, R, C, h, s, s, d).permute(0, 3, 1, 4, 2, 5, 6)
    x = x.reshape(B, h, R * s, C * s, d)
    if is_dynamic(hw):  # slices would ask whether there is padding
        x = F.pad(x, (0, 0, 0, W - C * s, 0, H - R * s))
    else:
        x = x[:, :, :H, :W]
    return x.reshape(B, h, H * W, d)


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
    if not (is_dynamic(hw) or any(side % window_size for side in hw)):
        return None
    real = torch.ones(1, 1, hw[0] * hw[1], 1, device=device)
    windows = window_partition(real, hw, window_size)
    return windows.bool().transpose(2, 3)
