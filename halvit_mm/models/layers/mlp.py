"""The tied feed-forward network."""

from typing import Dict, Optional

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ... import ops
from .gain import learnt_gain
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
        gain: One of :data:`.gain.GAINS`.
    """

    def __init__(
        self,
        embed_dims: int,
        feedforward_channels: int,
        act: str = 'gelu',
        drop_rate: float = 0.0,
        gain: str = 'none',
    ) -> None:
        super().__init__()
        self.gain = learnt_gain(feedforward_channels, gain)
        self.signed = gain == 'signed'
        self.approximate = GELU_FORMS[act]
        self.tied = TiedLinear(embed_dims, feedforward_channels)
        self.drop = nn.Dropout(drop_rate)

    def pack(self, dtype: torch.dtype) -> Dict[str, Optional[Tensor]]:
        """The matrix, both biases and the gain."""
        weights = (*self.tied.weights(), self.gain and self.gain())
        names = ('w', 'b1', 'b2', 'gain')
        return {
            name: None if weight is None else weight.to(dtype)
            for name, weight in zip(names, weights)
        }

    def forward(self, x: Tensor, shared: Optional['TiedFFN'] = None) -> Tensor:
        """Apply the network.

        Args:
            x: (B, T, D).
            shared: Holds the weights which this module has not.

        Returns:
            (B, T, D).
        """
        options = dict(approximate=self.approximate, signed=self.signed)
        if prepared := self.prepared_weights:
            with ops.without_autocast(x):
                x = x.to(self.prepared_dtype)
                return ops.tied_ffn(x, **prepared, **options)
        weights = self.tied.weights(shared and shared.tied)
        gain = self.gain and self.gain()
        if self.training and self.drop.p:  # the op keeps no dropout mask
            return self._forward_with_dropout(x, *weights, gain)
        return ops.tied_ffn(x, *weights, gain=gain, **options)

    def _forward_with_dropout(self, x, w, b1, b2, gain) -> Tensor:
        hidden = F.gelu(F.linear(x, w, b1), approximate=self.approximate)
        if gain is not None:
            hidden = hidden * gain.to(hidden.dtype)
        if self.signed:
            positive, negative = self.drop(hidden).chunk(2, dim=-1)
            hidden = torch.cat((positive, -negative), dim=-1)
        else:
            hidden = self.drop(hidden)
        return self.drop(F.linear(hidden, w.t(), b2))
