"""What is timed: one encoder layer.

Shapes: B batch, T tokens of an image, D width, F hidden width of the FFN.
"""

from dataclasses import dataclass
from itertools import product
from typing import ClassVar, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from halvit_mm.models.layers import EncoderLayer, TiedEncoderLayer

from .cases import Case, Sizes

_WIDTHS = ((384, 6), (768, 12))  # D and heads: HaLViT-T and -M
# B and T: training on ImageNet, detection in two images of 800 x 1344
# pixels, one image.
_TOKENS = ((256, 197), (2, 4200), (1, 197))


@dataclass(frozen=True)
class LayerCase(Case):
    """One encoder layer, with its input in float32.

    It takes the arguments of :class:`Case` and these:

    Args:
        embed_dims: Width D.
        num_heads: Number of heads, a divisor of D.
        feedforward_channels: Hidden width F, by default 4 D.
        tokens: Tokens T of an image.
    """

    embed_dims: int = 384
    num_heads: int = 6
    feedforward_channels: Optional[int] = None
    tokens: int = 197

    level: ClassVar[str] = 'layer'

    def __post_init__(self) -> None:
        hidden = self.feedforward_channels or 4 * self.embed_dims
        object.__setattr__(self, 'feedforward_channels', hidden)
        super().__post_init__()
        if self.embed_dims % self.num_heads:
            raise ValueError(
                f'embed_dims={self.embed_dims} is not divisible by '
                f'num_heads={self.num_heads}'
            )

    @property
    def label(self) -> str:
        """D x heads x F, and B x T."""
        return (
            f'{self.embed_dims}x{self.num_heads}x{self.feedforward_channels}'
            f'_{self.batch}x{self.tokens}'
        )

    @property
    def sizes(self) -> Sizes:
        """T, D, F and one layer."""
        D, F = self.embed_dims, self.feedforward_channels
        return Sizes(self.tokens, D, F, 1)

    def build(self, tied: bool, layer_cls=None) -> nn.Module:
        """Build the layer; ``layer_cls`` replaces the usual class."""
        layer_cls = layer_cls or (TiedEncoderLayer if tied else EncoderLayer)
        layer = layer_cls(
            self.embed_dims,
            self.num_heads,
            self.feedforward_channels,
            norm_cfg=dict(type='LN', eps=1e-6),
            act=self.act,
        )
        return self._place(_WholeGrid(layer, (1, self.tokens)))

    def inputs(self, module: nn.Module) -> Tuple[Tensor]:
        """Tokens (B, T, D), with a gradient in training."""
        shape = self.batch, self.tokens, self.embed_dims
        x = torch.randn(shape, device=self.device)
        return (x.requires_grad_(self.mode == 'train'),)


def grid(
    device: str,
    modes: Sequence[str] = ('train', 'infer'),
    dtypes: Sequence[str] = ('bf16',),
    force: bool = False,
    act: str = 'gelu',
) -> List[LayerCase]:
    """Make layers of both widths on 50432, 8400 and 197 tokens.

    Args:
        device: Device of all cases.
        modes: The modes, see :class:`.cases.Case`.
        dtypes: The dtypes, see :class:`.cases.Case`.
        force: Whether a CPU is allowed.
        act: Form of the GELU.

    Returns:
        Six cases for each mode and dtype.

    Raises:
        ValueError: On a CPU, unless forced.
    """
    if torch.device(device).type == 'cpu' and not force:
        raise ValueError(
            'the grid is for a GPU: on a CPU it takes hours; --force runs it '
            'all the same'
        )
    return [
        LayerCase(
            *(mode, dtype, device, batch, act),
            embed_dims=embed_dims,
            num_heads=num_heads,
            tokens=tokens,
        )
        for mode, dtype, (embed_dims, num_heads), (batch, tokens) in product(
            modes, dtypes, _WIDTHS, _TOKENS
        )
    ]


class _WholeGrid(nn.Module):
    """A layer that is called with tokens only.

    Args:
        layer: An encoder layer.
        hw: Height and width of its grid in tokens.
    """

    def __init__(self, layer: nn.Module, hw: Tuple[int, int]) -> None:
        super().__init__()
        self.layer = layer
        self.hw = hw

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, self.hw)
