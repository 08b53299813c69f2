"""Simple feature pyramid for plain backbones."""

import math
from typing import Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleList
from mmpretrain.models.utils import build_norm_layer
from torch import Tensor, nn

from ...registry import MODELS


@MODELS.register_module()
class SimpleFPN(BaseModule):
    """A feature pyramid from the single map of a plain ViT.

    ViTDet (Li et al., 2022), Sec. 3; HaLViT (Koyun and Toereyin, 2024), Sec.
    4.2. Each level is computed from the same map: by deconvolutions of stride
    2, not at all, or by max pooling, followed by a 1x1 and a 3x3 convolution,
    each with a norm. Further levels subsample the last one by 2.

    Args:
        in_channels: Channels of the backbone's map.
        out_channels: Channels of every level.
        patch_size: Stride of the backbone's map in pixels, a power of two.
        strides: Strides of the computed levels in pixels, powers of two.
        num_outs: Number of levels, the subsampled ones included.
        norm_cfg: Norm of maps (B, C, H, W); by default LayerNorm over the
            channels.
        init_cfg: By default Xavier uniform (HaLViT, Sec. 4.2).

    Raises:
        ValueError: If a stride or the patch size is not a power of two, or if
            ``num_outs`` is smaller than the number of strides.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        patch_size: int = 16,
        strides: Sequence[int] = (4, 8, 16, 32),
        num_outs: int = 5,
        norm_cfg: Optional[dict] = None,
        init_cfg: Optional[dict] = None,
    ) -> None:
        super().__init__(
            init_cfg
            or dict(
                type='Xavier',
                layer=['Conv2d', 'ConvTranspose2d'],
                distribution='uniform',
            )
        )
        for stride in (patch_size, *strides):
            if stride < 1 or stride & (stride - 1):
                raise ValueError(
                    f'patch_size={patch_size}, strides={tuple(strides)}: '
                    f'{stride} is not a power of two'
                )
        if num_outs < len(strides):
            raise ValueError(
                f'num_outs={num_outs} is smaller than the number of '
                f'strides {tuple(strides)}'
            )
        self.num_extra = num_outs - len(strides)
        norm_cfg = norm_cfg or dict(type='LN2d', eps=1e-6)
        self.levels = ModuleList(
            _level(
                in_channels,
                out_channels,
                round(math.log2(patch_size / stride)),
                norm_cfg,
            )
            for stride in strides
        )

    def forward(self, inputs: Tuple[Tensor, ...]) -> Tuple[Tensor, ...]:
        """Build the pyramid.

        Args:
            inputs: One map, (B, in_channels, H, W).

        Returns:
            ``num_outs`` maps (B, out_channels, H_i, W_i), finest first. They
            are float32 under autocast, too, because the host's RoI extractors
            round box coordinates to the precision of the maps.

        Raises:
            ValueError: If there is not exactly one map.
        """
        if len(inputs) != 1:
            raise ValueError(
                f'SimpleFPN takes one map, but the backbone gives '
                f'{len(inputs)}: set its out_indices to one layer'
            )
        outs = [level(inputs[0]) for level in self.levels]
        for _ in range(self.num_extra):
            outs.append(F.max_pool2d(outs[-1], kernel_size=1, stride=2))
        if torch.is_autocast_enabled(inputs[0].device.type):
            outs = [out.float() for out in outs]
        return tuple(outs)


def _level(in_channels, out_channels, doublings, norm_cfg) -> nn.Sequential:
    """Build a level that doubles the map's size (negative: halves it)."""
    modules, channels = [], in_channels
    for i in range(doublings):
        if i:
            modules += [build_norm_layer(norm_cfg, channels), nn.GELU()]
        modules.append(
            nn.ConvTranspose2d(channels, channels // 2, 2, stride=2)
        )
        channels //= 2
    modules += [nn.MaxPool2d(2) for _ in range(-doublings)]
    for kernel_size in (1, 3):
        modules.append(
            nn.Conv2d(
                channels,
                out_channels,
                kernel_size,
                padding=kernel_size // 2,
                bias=False,
            )
        )
        modules.append(build_norm_layer(norm_cfg, out_channels))
        channels = out_channels
    return nn.Sequential(*modules)
