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

    With ``hidden_shift`` k, our own, hidden unit i reads row i of W and
    writes row i + k. The paper's FFN is the gradient of a potential, so that
    its Jacobian is symmetric, with or without signs; a shift lifts that.

    Args:
        embed_dims: D.
        feedforward_channels: Hidden width.
        act: ``'gelu'`` (erf) or ``'gelu_tanh'``.
        drop_rate: Dropout of the hidden units and of the output.
        gain: One of :data:`.gain.GAINS`.
        hidden_shift: Rows between both uses of the matrix.
    """

    def __init__(
        self,
        embed_dims: int,
        feedforward_channels: int,
        act: str = 'gelu',
        drop_rate: float = 0.0,
        gain: str = 'none',
        hidden_shift: int = 0,
    ) -> None:
        super().__init__()
        self.hidden_shift = hidden_shift
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
        if prepared := self.prepared_weights:
            with ops.without_autocast(x):
                return self._apply_to(x.to(self.prepared_dtype), **prepared)
        w, b1, b2 = self.tied.weights(shared and shared.tied)
        gain = self.gain and self.gain(shared and shared.gain)
        return self._apply_to(x, w, b1, b2, gain)

    def _apply_to(self, x, w, b1, b2, gain) -> Tensor:
        # The operator keeps no dropout mask and knows no shift.
        if self.hidden_shift or (self.training and self.drop.p):
            return self._apply_plainly(x, w, b1, b2, gain)
        return ops.tied_ffn(
            x,
            w,
            b1,
            b2,
            gain=gain,
            approximate=self.approximate,
            signed=self.signed,
        )

    def _apply_plainly(self, x, w, b1, b2, gain) -> Tensor:
        hidden = F.gelu(F.linear(x, w, b1), approximate=self.approximate)
        if gain is not None:
            hidden = hidden * gain.to(hidden.dtype)
        hidden = self.drop(hidden)
        if self.signed:
            positive, negative = hidden.chunk(2, dim=-1)
            hidden = torch.cat((positive, -negative), dim=-1)
        if self.hidden_shift:  # of the matrix: it is smaller than the units
            w = w.roll(-self.hidden_shift, 0)
        return self.drop(F.linear(hidden, w.t(), b2))
