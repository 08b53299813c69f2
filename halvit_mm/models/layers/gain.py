"""Factors between both uses of a tied matrix."""

from typing import Optional

import torch
from torch import Tensor, nn

__all__ = ['GAINS', 'LearntGain', 'learnt_gain']

#: What may stand between ``W`` and its transpose: nothing, as in the paper;
#: fixed signs of the hidden units (HaLViT+-); or, for the ablation, learnt
#: factors of the hidden units and of attention's output, starting at 1 or
#: like the fixed signs.
GAINS = ('none', 'signed', 'learnt', 'learnt_signed')


class LearntGain(nn.Module):
    """A factor per unit.

    Args:
        features: Number of units.
        signed: Whether the second half starts at -1; 1 else.
    """

    def __init__(self, features: int, signed: bool) -> None:
        super().__init__()
        start = torch.ones(features)
        if signed:
            start[features // 2 :] = -1
        self.weight = nn.Parameter(start)

    def forward(self, shared: Optional['LearntGain'] = None) -> Tensor:
        """Args: shared: Has the factors if they are not here.

        Returns:
            (features,).
        """
        return shared.weight if self.weight is None else self.weight


def learnt_gain(features: int, gain: str) -> Optional[LearntGain]:
    """Args: gain: One of :data:`GAINS`. Returns: A module, or None.

    Raises:
        ValueError: For an unknown gain, and for signs of an odd number.
    """
    if gain not in GAINS:
        raise ValueError(f'gain={gain!r}: choose one of {list(GAINS)}')
    if 'signed' in gain and features % 2:
        raise ValueError(f'gain={gain!r}: {features} units have no half')
    if not gain.startswith('learnt'):
        return None
    return LearntGain(features, signed=gain == 'learnt_signed')
