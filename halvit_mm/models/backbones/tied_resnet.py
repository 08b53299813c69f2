"""ResNet50 whose bottlenecks share one tied matrix per stage.

HaLViT (Koyun and Toereyin, 2024), Sec. 3.2, Tables 4 and 9.
"""

import re
from typing import Sequence, Tuple

from mmpretrain.models.backbones import ResNet
from torch import nn

from ...registry import MODELS
from .pretrained import PretrainedBackbone
from .tied_stage import TiedStage

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
    """Build a tied stage from the arguments of the host's stages."""
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
