"""ResNet50 whose bottlenecks share one tied matrix per stage.

HaLViT (Koyun and Toereyin, 2024), Sec. 3.2, Tables 4 and 9: the two 1x1
convolutions of all blocks of a stage are one matrix ``W`` and its transpose.

Shapes: B batch, H and W grid, C_in channels into a stage, C out of it, M
inside its blocks (C / 4).
"""

import re
from typing import Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleList, constant_init
from mmpretrain.models.backbones import ResNet
from mmpretrain.models.utils import build_norm_layer
from torch import Tensor, nn

from ...registry import MODELS
from .pretrained import PretrainedBackbone

__all__ = ['TiedResNet', 'TiedStage']

#: What the host's stages can choose and a tied one cannot.
_FIXED = dict(
    expansion=4,
    dilation=1,
    style='pytorch',
    avg_down=False,
    with_cp=False,
    conv_cfg=None,
    drop_path_rate=0.0,
)


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
        stride: Of the 3x3 convolution.
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
            weight: (M, C), the stage's.

        Returns:
            As ``identity``.
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
        stride: Of the first of them.
        zero_init_residual: Whether the last norm of a block starts at 0.
        norm_cfg: All norms of the stage, BatchNorm by default.

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
        """A block. Args: index: As of a list; the host asks for the last."""
        return self.blocks[index]

    def forward(self, x: Tensor) -> Tensor:
        """Args: x: (B, C_in, H, W). Returns: (B, C, H / s, W / s)."""
        if self.expand is not None:
            x = torch.cat((self.expand(x), x), dim=1)
        for i, block in enumerate(self.blocks):
            down = self.downsample if i == 0 else None
            x = block(x, x if down is None else down(x), self.weight)
        return x


@MODELS.register_module()
class TiedResNet(PretrainedBackbone, ResNet):
    """ResNet50-PE and the stages that it ties.

    ``tied_stages=(2, 3)`` is ResNet50-PE2, also called ResNet50*, with
    13,466,176 parameters; all four stages make ResNet50-PE1 with 12,833,152
    (both without a classifier; ResNet50 has 23,508,032).

    Args:
        depth: 50, 101 or 152: bottlenecks.
        tied_stages: Indices of the stages that are tied, from 0.
        kwargs: As for mmpretrain's ``ResNet``. A tied stage takes
            ``norm_cfg``, ``frozen_stages``, ``norm_eval`` and
            ``zero_init_residual`` as the others do, but leaves no choice of
            ``expansion``, ``dilations``, ``style``, ``avg_down``,
            ``with_cp``, ``conv_cfg`` and ``drop_path_rate``.

    Raises:
        ValueError: For another depth, an unknown stage, or what a tied stage
            does not have.
    """

    def __init__(
        self,
        depth: int = 50,
        tied_stages: Sequence[int] = (2, 3),
        **kwargs,
    ) -> None:
        if depth not in (50, 101, 152):
            raise ValueError(
                f'depth={depth}: choose one of 50, 101, 152, which have '
                'bottlenecks'
            )
        self.tied_stages = tuple(tied_stages)
        super().__init__(depth, **kwargs)
        unknown = [i for i in tied_stages if not 0 <= i < self.num_stages]
        if unknown:
            raise ValueError(
                f'tied_stages={self.tied_stages}: {unknown} are none of the '
                f'{self.num_stages} stages, which are counted from 0'
            )

    def train(self, mode: bool = True) -> 'TiedResNet':
        """Set the mode; frozen stages stay in eval mode."""
        super().train(mode)  # the host's returns nothing
        return self

    def make_res_layer(self, **kwargs) -> nn.Module:
        """Build the next stage.

        Args:
            kwargs: As the base class has them.

        Returns:
            The stage.

        Raises:
            ValueError: If it is tied and asked for what only others have.
        """
        if len(self.res_layers) not in self.tied_stages:
            return super().make_res_layer(**kwargs)
        return _make_tied_stage(
            zero_init_residual=self.zero_init_residual, **kwargs
        )

    def get_layer_depth(
        self, param_name: str, prefix: str = ''
    ) -> Tuple[int, int]:
        """Depth of a parameter, for layer-wise learning rates.

        Args:
            param_name: Its name in the model.
            prefix: What this backbone's names start with.

        Returns:
            Its depth, and the number of depths. What the blocks of a tied
            stage share has the depth of the first of them.
        """
        # The host wants a block's index right behind the stage's name.
        name = re.sub(r'(layer\d+\.)blocks\.', r'\1', param_name)
        name = re.sub(r'(layer\d+\.)(?!\d)', r'\g<1>0.', name)
        return super().get_layer_depth(name, prefix)


def _make_tied_stage(
    in_channels: int,
    out_channels: int,
    num_blocks: int,
    stride: int,
    norm_cfg: dict,
    zero_init_residual: bool,
    block: type,
    drop_path_rate: Sequence[float],
    **others,
) -> TiedStage:
    """Args: As the host has them. Returns: The stage they make."""
    others['drop_path_rate'] = max(drop_path_rate)
    for name, value in others.items():
        if name not in _FIXED:
            raise ValueError(
                f'tied stages know no {name}={value!r}: choose from '
                f'{list(_FIXED)}'
            )
        if value != _FIXED[name]:
            raise ValueError(
                f'{name}={value!r}: tied stages take no {name} but '
                f'{_FIXED[name]!r}'
            )
    return TiedStage(
        in_channels,
        out_channels,
        num_blocks,
        stride,
        zero_init_residual,
        norm_cfg,
    )
