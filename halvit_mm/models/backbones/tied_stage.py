"""A ResNet's stage whose bottlenecks share one tied matrix.

HaLViT (Koyun and Toereyin, 2024), Sec. 3.2: the two 1x1 convolutions of all
blocks of a stage are one matrix ``W`` and its transpose.

Shapes: B batch, H and W grid, C_in channels into a stage, C out of it, M
inside its blocks (C / 4).
"""

from typing import Optional

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleList, constant_init
from mmpretrain.models.utils import build_norm_layer
from torch import Tensor, nn


def _conv3x3(channels: int, stride: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(
        channels, channels, 3, stride, 1, groups=groups, bias=False
    )


class TiedBottleneck(BaseModule):
    r"""What a block has for itself, :math:`G_i` and the norm after it.

    .. math:: block_i(x) = relu(BN(W^T G_i(W x)) + identity(x))

    Args:
        channels: C.
        mid_channels: M.
        stride: Stride of the 3x3 convolution.
        norm_cfg: The norms; their names are those of BatchNorm, whatever
            they are.
    """

    def __init__(
        self, channels: int, mid_channels: int, stride: int, norm_cfg: dict
    ) -> None:
        super().__init__()
        self.bn1 = build_norm_layer(norm_cfg, mid_channels)
        self.conv = _conv3x3(mid_channels, stride)
        self.bn2 = build_norm_layer(norm_cfg, mid_channels)
        self.bn3 = build_norm_layer(norm_cfg, channels)
        self.out_channels = channels  # as the host's blocks say it

    def forward(self, x: Tensor, identity: Tensor, weight: Tensor) -> Tensor:
        """Apply the block.

        Args:
            x: (B, C, H, W).
            identity: (B, C, H / stride, W / stride).
            weight: (M, C), the matrix of the stage.

        Returns:
            (B, C, H / stride, W / stride).
        """
        weight = weight[..., None, None]
        y = F.relu(self.bn1(F.conv2d(x, weight)))
        y = F.relu(self.bn2(self.conv(y)))
        y = self.bn3(F.conv2d(y, weight.transpose(0, 1)))
        return F.relu(y + identity)


class TiedStage(BaseModule):
    """A stage of tied bottlenecks around one matrix.

    Where its input has fewer than C channels, a grouped 3x3 convolution of
    the input makes the others and stands before it.

    Args:
        in_channels: C_in, a divisor of C - C_in, or C.
        channels: C.
        num_blocks: Number of bottlenecks.
        stride: Stride of the first of them.
        zero_init_residual: Whether the last norm of a block starts at 0.
        norm_cfg: Config of all norms, BatchNorm by default.

    Raises:
        ValueError: If the channels that are missing cannot be grouped.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        num_blocks: int,
        stride: int,
        zero_init_residual: bool = True,
        norm_cfg: Optional[dict] = None,
    ) -> None:
        super().__init__()
        norm_cfg = norm_cfg or dict(type='BN')
        self.zero_init_residual = zero_init_residual
        missing = channels - in_channels
        if missing < 0 or missing % in_channels:
            raise ValueError(
                f'{channels} channels cannot be made of {in_channels}: what '
                'is missing is to be a multiple of them'
            )
        mid_channels = channels // 4
        self.weight = nn.Parameter(torch.empty(mid_channels, channels))
        self.num_uses = 2 * num_blocks
        self.expand = None
        if missing:
            conv = nn.Conv2d(
                in_channels,
                missing,
                3,
                padding=1,
                groups=in_channels,
                bias=False,
            )
            self.expand = nn.Sequential(
                conv, build_norm_layer(norm_cfg, missing), nn.GELU()
            )
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(
                _conv3x3(channels, stride, groups=channels),
                build_norm_layer(norm_cfg, channels),
                build_norm_layer(norm_cfg, channels),
            )
        self.blocks = ModuleList(
            TiedBottleneck(
                channels, mid_channels, stride if i == 0 else 1, norm_cfg
            )
            for i in range(num_blocks)
        )
        nn.init.xavier_normal_(self.weight)

    def init_weights(self) -> None:
        """Xavier normal for the tied matrix; blocks may start at nothing."""
        super().init_weights()
        nn.init.xavier_normal_(self.weight)
        if self.zero_init_residual:
            for block in self.blocks:
                constant_init(block.bn3, 0)

    def __getitem__(self, index: int) -> nn.Module:
        """Return a block; the host asks for the last one.

        Args:
            index: As of a list.

        Returns:
            The block.
        """
        return self.blocks[index]

    def forward(self, x: Tensor) -> Tensor:
        """Apply the stage.

        Args:
            x: (B, C_in, H, W).

        Returns:
            (B, C, H / stride, W / stride).
        """
        if self.expand is not None:
            x = torch.cat((self.expand(x), x), dim=1)
        for i, block in enumerate(self.blocks):
            down = self.downsample if i == 0 else None
            x = block(x, x if down is None else down(x), self.weight)
        return x
