"""One matrix, used as ``W`` and as its transpose."""

from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ['TiedLinear']


class _Bias(nn.Module):
    """Only a bias, starting at zero.

    It is a module of its own so that its parameter is called ``bias``: that
    is how optimisers tell what is not decayed.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(features))


class TiedLinear(nn.Linear):
    r"""A linear map and, through the same matrix, its transpose.

    .. math:: y = W x + b, \qquad x' = W^T y' + b'

    This module is the one owner of ``W``. Both maps read the same parameter,
    so that saving, moving, copying, sharding and optimising it once is
    right. Being an :class:`torch.nn.Linear` it is initialised as one.
    HaLViT (Koyun and Toereyin, 2024), Sec. 3.1.

    Args:
        in_features: Width of ``x``.
        out_features: Width of ``y``.
        bias: Whether ``b`` exists.
        transposed_bias: Whether ``b'`` exists.
    """

    #: Matrices that an untied network has in the place of this weight.
    num_uses = 2

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        transposed_bias: bool = True,
    ) -> None:
        super().__init__(in_features, out_features, bias=bias)
        self.transposed = _Bias(in_features) if transposed_bias else None

    @property
    def transposed_bias(self):
        """``b'``, (in_features,), or None."""
        return None if self.transposed is None else self.transposed.bias

    def weights(
        self, shared: Optional['TiedLinear'] = None
    ) -> Tuple[Optional[Tensor], Optional[Tensor], Optional[Tensor]]:
        """``W``, ``b`` and ``b'``.

        Args:
            shared: Holds what this module gave away, see
                :func:`.sharing.keep_parameters`.

        Returns:
            This module's own parameters, those of ``shared`` in the place of
            what it has not.
        """
        own = (self.weight, self.bias, self.transposed_bias)
        if shared is None:
            return own
        pairs = zip(own, shared.weights())
        return tuple(b if a is None else a for a, b in pairs)

    def forward_transposed(self, y: Tensor) -> Tensor:
        """Args: y: (..., out_features). Returns: (..., in_features)."""
        return F.linear(y, self.weight.t(), self.transposed_bias)
