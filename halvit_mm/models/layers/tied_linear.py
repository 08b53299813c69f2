"""One matrix, used as ``W`` and as its transpose."""

import logging
from functools import cache
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ['TiedLinear', 'tied_linear_in']


@cache
def _warn_of_quantisation() -> None:
    logging.getLogger('halvit_mm').warning(
        'Tied layers stay in floating point: eager quantisation replaces '
        'layers, and these use their matrix twice.'
    )


class _Bias(nn.Module):
    """Only a bias, starting at zero, or None.

    It is a module of its own so that its parameter is called ``bias``: that
    is how optimisers tell what is not decayed.
    """

    def __init__(self, features: int, exists: bool) -> None:
        super().__init__()
        bias = nn.Parameter(torch.zeros(features)) if exists else None
        self.register_parameter('bias', bias)


class TiedLinear(nn.Linear):
    r"""A linear map and, through the same matrix, its transpose.

    .. math:: y = W x + b, \qquad x' = W^T y' + b'

    This module is the one owner of ``W``. Both maps read the same parameter,
    so that saving, moving, copying, sharding and optimising it once is
    right. Being an :class:`torch.nn.Linear` it is initialised as one.
    HaLViT (Koyun and Toereyin, 2024), Sec. 3.1.

    Hooks, pruning and adapters act on the first map, ``W x + b``; the
    transpose reads the weight that they leave.

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
        self.transposed = _Bias(in_features, transposed_bias)

    @property
    def transposed_bias(self) -> Optional[Tensor]:
        """``b'``, (in_features,), or None."""
        return self.transposed.bias

    def forward(self, x: Tensor) -> Tensor:
        """Apply the first map.

        Args:
            x: (..., in_features).

        Returns:
            (..., out_features).
        """
        # Not inherited: a plain Linear in this place is to be told apart.
        return F.linear(x, self.weight, self.bias)

    def forward_transposed(self, y: Tensor) -> Tensor:
        """Apply the transpose.

        Args:
            y: (..., out_features).

        Returns:
            (..., in_features).
        """
        return F.linear(y, self.weight.t(), self.transposed.bias)

    def share_matrix(self, owner: 'TiedLinear') -> None:
        """Use the matrix of another layer; biases stay this layer's own.

        Args:
            owner: Keeps the matrix registered. Its module is referred to,
                not its tensor, so that a parameter that is replaced there
                (by sharding, for example) is seen here.

        Raises:
            ValueError: If the matrices differ in shape.
        """
        shape = (owner.out_features, owner.in_features)
        if (self.out_features, self.in_features) != shape:
            raise ValueError(
                f'a matrix of {shape} cannot serve as one of '
                f'{(self.out_features, self.in_features)}'
            )
        del self.weight
        self.__class__ = _BorrowingLinear
        self.__dict__['owner'] = owner

    @property
    def qconfig(self):
        """Setting of PyTorch's eager quantisation, which leaves it alone."""
        return None

    @qconfig.setter
    def qconfig(self, value) -> None:
        _warn_of_quantisation()

    @qconfig.deleter
    def qconfig(self) -> None:
        pass  # PyTorch tidies up what it has set


class _BorrowingLinear(TiedLinear):
    """A tied layer whose matrix is registered in another one."""

    @property
    def weight(self) -> Tensor:
        """``W``, (out_features, in_features), the owner's."""
        return self.__dict__['owner'].weight


def tied_linear_in(module: nn.Module) -> TiedLinear:
    """Find the tied layer, also inside an adapter that has replaced it.

    Args:
        module: A :class:`TiedLinear`, or what stands in its place, such as
            the ``LoRALinear`` of mmpretrain.

    Returns:
        The tied layer.

    Raises:
        ValueError: If there is none.
    """
    for part in module.modules():
        if isinstance(part, TiedLinear):
            return part
    raise ValueError(
        f'{type(module).__name__} has replaced a TiedLinear and holds none: '
        'the matrix is needed a second time, as its transpose. Leave tied '
        'layers out, or wrap them as an adapter does'
    )
