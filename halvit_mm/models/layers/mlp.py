"""The tied feed-forward network."""

from typing import Dict

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ... import ops
from .prepared import PreparedModule
from .tied_linear import TiedLinear

__all__ = ['GELU_FORMS', 'TiedFFN']

#: Name in a config -> the ``approximate`` argument of PyTorch's GELU.
GELU_FORMS = {'gelu': 'none', 'gelu_tanh': 'tanh'}


class TiedFFN(PreparedModule, BaseModule):
    r"""HaLViT's FFN, :math:`W^T gelu(W x + b_1) + b_2` (Eq. 4).

    Args:
        embed_dims: D.
        feedforward_channels: Hidden width.
        act: ``'gelu'`` (erf) or ``'gelu_tanh'``.
        drop_rate: Dropout of the hidden units and of the output.
    """

    def __init__(
        self,
        embed_dims: int,
        feedforward_channels: int,
        act: str = 'gelu',
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.approximate = GELU_FORMS[act]
        self.tied = TiedLinear(embed_dims, feedforward_channels)
        self.drop = nn.Dropout(drop_rate)

    def pack(self, dtype: torch.dtype) -> Dict[str, Tensor]:
        """The matrix and both biases."""
        tied = self.tied
        return dict(
            w=tied.weight.to(dtype),
            b1=tied.bias.to(dtype),
            b2=tied.transposed_bias.to(dtype),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Args: x: (B, T, D). Returns: (B, T, D)."""
        if self.training and self.drop.p:  # the op keeps no dropout mask
            hidden = F.gelu(self.tied(x), approximate=self.approximate)
            return self.drop(self.tied.forward_transposed(self.drop(hidden)))
        if prepared := self.prepared_weights:
            with ops.without_autocast(x):
                x = x.to(self.prepared_dtype)
                return ops.tied_ffn(
                    x, **prepared, approximate=self.approximate
                )
        return ops.tied_ffn(
            x,
            self.tied.weight,
            self.tied.bias,
            self.tied.transposed_bias,
            self.approximate,
        )
