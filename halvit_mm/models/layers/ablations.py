"""Tyings of the studies, on plain PyTorch: learnt gains and a shift.

They were measured beside what ships (``docs/studies``): learnt gains end
within the noise between seeds of fixed signs.
"""

from typing import Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .mlp import SignedFFN, TiedFFN
from .tied_attention import TiedSelfAttention


class LearntGain(nn.Module):
    """A learnt factor per unit.

    Args:
        features: Number of units.
        signed: Whether the second half starts at -1; all start at 1 else.

    Raises:
        ValueError: If the second half of an odd number is to be negative.
    """

    def __init__(self, features: int, signed: bool) -> None:
        super().__init__()
        if signed and features % 2:
            raise ValueError(f'signed gain: {features} units have no half')
        start = torch.ones(features)
        if signed:
            start[features // 2 :] = -1
        self.weight = nn.Parameter(start)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply.

        Args:
            x: (..., features).

        Returns:
            (..., features), in the data type of ``x``.
        """
        return x * self.weight.to(x.dtype)


class ShiftedFFN(TiedFFN):
    """A tied FFN whose hidden unit i reads row i of W and writes row i + k.

    The paper's FFN is the gradient of a potential, so that its Jacobian is
    symmetric, with or without signs; a shift lifts that.

    Args:
        args, kwargs: As for :class:`TiedFFN`.
        hidden_shift: k.
    """

    def __init__(self, *args, hidden_shift: int = 0, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.hidden_shift = hidden_shift
        if hidden_shift:
            self.variant = f'{self.variant}+shift{hidden_shift}'

    def between(self, hidden: Tensor) -> Tensor:
        """Move every hidden unit k rows on, see :meth:`.TiedFFN.between`."""
        return super().between(hidden).roll(self.hidden_shift, -1)

    def compute(self, x: Tensor, w: Tensor, b1: Tensor, b2: Tensor) -> Tensor:
        """Compute :meth:`.TiedFFN.compute` without an operator."""
        hidden = F.gelu(F.linear(x, w, b1), approximate=self.approximate)
        return F.linear(self.between(hidden), w.t(), b2)


class ShiftedSignedFFN(ShiftedFFN, SignedFFN):
    """Signs and a shift, see :class:`ShiftedFFN`.

    Args:
        args, kwargs: As for :class:`ShiftedFFN`.

    Raises:
        ValueError: As for :class:`SignedFFN`, and for a shift of half of the
            hidden units, which makes the FFN's linear part antisymmetric.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        width = self.tied.out_features
        if 2 * (self.hidden_shift % width) == width:
            raise ValueError(
                f'hidden_shift={self.hidden_shift} is half of the {width} '
                'hidden units: with signs the linear part of the FFN would '
                'be antisymmetric; choose another one, such as embed_dims'
            )


class GainedFFN(ShiftedFFN):
    """A tied FFN with a learnt factor per hidden unit.

    Args:
        embed_dims: D.
        feedforward_channels: Hidden width.
        signed_start: Whether the second half of the factors starts at -1.
        kwargs: As for :class:`ShiftedFFN`.

    Raises:
        ValueError: If an odd hidden width is to start signed.
    """

    variant = 'learnt'

    def __init__(
        self,
        embed_dims: int,
        feedforward_channels: int,
        signed_start: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(embed_dims, feedforward_channels, **kwargs)
        _put_gain_first(self, LearntGain(feedforward_channels, signed_start))

    def between(self, hidden: Tensor) -> Tensor:
        """Multiply by the gain, then shift."""
        return super().between(self.gain(hidden))


class GainedSelfAttention(TiedSelfAttention):
    """Tied attention with a learnt factor per channel of the heads' output.

    Args:
        embed_dims: D.
        num_heads: h, a divisor of D.
        signed_start: Whether the second half of the factors starts at -1.
        kwargs: As for :class:`TiedSelfAttention`.

    Raises:
        ValueError: As for :class:`TiedSelfAttention`, and if an odd width is
            to start signed.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        signed_start: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(embed_dims, num_heads, **kwargs)
        _put_gain_first(self, LearntGain(embed_dims, signed_start))

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, hw: Tuple[int, int]
    ) -> Tensor:
        """Attend, and multiply the output by the gain."""
        return self.gain(super().attend(q, k, v, hw))


def _put_gain_first(module: nn.Module, gain: LearntGain) -> None:
    # Optimisers' states in checkpoints count parameters in this order.
    module.gain = gain
    module._modules = {'gain': gain, **module._modules}
