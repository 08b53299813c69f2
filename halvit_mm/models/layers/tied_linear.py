"""One matrix that is used twice: as ``W`` and its transpose, or as ``W``."""

import logging
from functools import cache
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@cache
def _warn_of_quantisation() -> None:
    logging.getLogger('halvit_mm').warning(
        'Tied layers stay in floating point: eager quantisation replaces '
        'layers, and these use their matrix twice.'
    )


class SecondMap(nn.Module):
    """The second map of a tied layer, with a bias of its own, or None.

    It is a module so that hooks and pruning find it, and its parameter is
    called ``bias``: that is how optimisers tell what is not decayed. The bias
    starts at zero.

    Args:
        features: Width of the result.
        has_bias: Whether the bias exists.
        transposes: Whether the map is by the transpose of the weight that
            ``forward`` is given, or by the weight itself.
    """

    def __init__(
        self, features: int, has_bias: bool, transposes: bool = True
    ) -> None:
        super().__init__()
        self.transposes = transposes
        bias = nn.Parameter(torch.zeros(features)) if has_bias else None
        self.register_parameter('bias', bias)

    def forward(self, y: Tensor, weight: Tensor) -> Tensor:
        """Apply ``weight`` or its transpose, see :class:`TiedLinear`."""
        weight = weight.t() if self.transposes else weight
        return F.linear(y, weight, self.bias)


class TiedLinear(nn.Linear):
    r"""A linear map and, through the same matrix, its transpose.

    .. math:: y = W x + b, \qquad x' = W^T y' + b'

    This module is the one owner of ``W``. Both maps read the same parameter,
    so that saving, moving, copying, sharding and optimising it once is
    right. Being an :class:`torch.nn.Linear` it is initialised as one.
    HaLViT (Koyun and Toereyin, 2024), Sec. 3.1.

    Hooks, pruning and adapters act on the first map, ``W x + b``; the
    transpose reads the weight that they leave. Those of the transpose go to
    ``transposed``.

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
        self.transposed = SecondMap(in_features, transposed_bias)

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

    def forward_second(self, y: Tensor) -> Tensor:
        """Apply the second map, here the transpose.

        Args:
            y: (..., out_features).

        Returns:
            (..., in_features).
        """
        return self.transposed(y, self.weight)

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


# Linear once more: initialisers of the hosts look at immediate bases only.
class RepeatedLinear(TiedLinear, nn.Linear):
    r"""A linear map that is applied twice, each time with its own bias.

    .. math:: y = W x + b, \qquad y' = W x' + b'

    ``forward_second`` is the second map; its hooks and adapters go to
    ``again``.

    Args:
        features: Width of ``x`` and of ``y``.
        bias: Whether ``b`` exists; ``b'`` always does.
    """

    def __init__(self, features: int, bias: bool = True) -> None:
        super().__init__(features, features, bias=bias)
        del self._modules['transposed']
        self.again = SecondMap(features, True, transposes=False)

    @property
    def transposed(self) -> SecondMap:
        """The second map, where that of a :class:`TiedLinear` is."""
        return self.again


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
        'its matrix is used a second time. Leave tied layers out, or wrap '
        'them as an adapter does'
    )
