"""The feed-forward networks: untied, tied, and tied with fixed signs."""

from typing import Dict, List, Optional, Tuple

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.transformer import FFN
from mmengine.model import BaseModule
from torch import Tensor, nn

from ... import ops
from .packed import PackedModule
from .sharing import owns
from .tied_linear import TiedLinear, tied_linear_in
from .untouched import are_untouched

#: Name in a config -> the ``approximate`` argument of PyTorch's GELU.
GELU_FORMS = {'gelu': 'none', 'gelu_tanh': 'tanh'}


def untied_ffn(
    embed_dims: int,
    feedforward_channels: int,
    act: str = 'gelu',
    drop_rate: float = 0.0,
) -> FFN:
    """Build mmcv's FFN, two matrices, without its residual sum.

    Args:
        embed_dims: D.
        feedforward_channels: Hidden width.
        act: ``'gelu'`` (erf) or ``'gelu_tanh'``.
        drop_rate: Dropout of the hidden units and of the output.

    Returns:
        A module that maps (B, T, D) to (B, T, D).
    """
    return FFN(
        embed_dims,
        feedforward_channels,
        ffn_drop=drop_rate,
        act_cfg=dict(type='GELU', approximate=GELU_FORMS[act]),
        add_identity=False,
    )


def init_ffn(ffn: nn.Module, scale: float) -> None:
    """Initialise as mmpretrain's ViT: Xavier matrices and small biases.

    Args:
        ffn: Any FFN. A matrix that it borrows is left to its owner.
        scale: Factor of the matrices.
    """
    for module in ffn.modules():
        if not isinstance(module, nn.Linear):
            continue
        if owns(module, 'weight'):
            nn.init.xavier_uniform_(module.weight, gain=scale)
        for bias in (module.bias, getattr(module, 'transposed_bias', None)):
            if bias is not None:
                nn.init.normal_(bias, std=1e-6)


class TiedFFN(PackedModule, BaseModule):
    r"""HaLViT's FFN, :math:`W^T gelu(W x + b_1) + b_2` (Eq. 4).

    Koyun and Toereyin (2024), Sec. 3.1.

    Args:
        embed_dims: D.
        feedforward_channels: Hidden width.
        act: ``'gelu'`` (erf) or ``'gelu_tanh'``.
        drop_rate: Dropout of the hidden units and of the output.
    """

    #: What checkpoints say of the tying, see :class:`.VariantMark`.
    variant = 'none'
    #: Whether the operator negates the second half of the hidden units.
    signed = False

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

    def bypassed(self) -> List[Tuple[nn.Module, type]]:
        """Return the layer whose weights are packed, and the dropout."""
        return [(self.tied, TiedLinear), (self.drop, nn.Dropout)]

    def pack(self, dtype: torch.dtype) -> Dict[str, Optional[Tensor]]:
        """Cast the arguments of :meth:`compute`."""
        return dict(
            w=self.tied.weight.to(dtype),
            b1=self.tied.bias.to(dtype),
            b2=self.tied.transposed.bias.to(dtype),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the network.

        Args:
            x: (B, T, D).

        Returns:
            (B, T, D).
        """
        if packed := self.packed and self.packed_weights:
            with ops.without_autocast(x):
                x = x.to(self.rounded_to).to(packed['w'].dtype)
                return self.compute(x, **packed).to(self.rounded_to)
        tied, drop = self.tied, self.drop
        # The operator keeps no dropout mask and calls no hook.
        if not are_untouched((tied, TiedLinear), (drop, nn.Dropout)) or (
            self.training and drop.p
        ):
            return self.forward_plain(x)
        return self.compute(x, tied.weight, tied.bias, tied.transposed.bias)

    def compute(self, x: Tensor, w: Tensor, b1: Tensor, b2: Tensor) -> Tensor:
        """Compute the network by its operator.

        Args:
            x: (B, T, D).
            w: (hidden width, D).
            b1: (hidden width,).
            b2: (D,).

        Returns:
            (B, T, D).
        """
        return ops.tied_ffn(
            x, w, b1, b2, approximate=self.approximate, signed=self.signed
        )

    def forward_plain(self, x: Tensor) -> Tensor:
        """Apply the network by calling its modules, (B, T, D) to (B, T, D)."""
        hidden = F.gelu(self.tied(x), approximate=self.approximate)
        hidden = self.drop(self.between(hidden))
        return self.drop(tied_linear_in(self.tied).forward_second(hidden))

    def between(self, hidden: Tensor) -> Tensor:
        """Change the hidden units between both uses of the matrix.

        Args:
            hidden: (B, T, hidden width), after the GELU.

        Returns:
            The same here; subclasses weight, negate or permute the units.
        """
        return hidden


class SignedFFN(TiedFFN):
    """The FFN of HaLViT+-: the second half of the units counts negative.

    Our own step beyond the paper (version 1 with the paper's attention,
    version 2 with like-tied): the linear part of its FFN is positive
    semi-definite, that of this one is not
    (:func:`halvit_mm.ops.reference.tied_ffn`).

    Args:
        embed_dims: D.
        feedforward_channels: Hidden width, even.
        kwargs: As for :class:`TiedFFN`.

    Raises:
        ValueError: If the hidden width is odd.
    """

    variant = 'signed'
    signed = True

    def __init__(
        self, embed_dims: int, feedforward_channels: int, **kwargs
    ) -> None:
        if feedforward_channels % 2:
            raise ValueError(
                f"gain='signed': {feedforward_channels} units have no half"
            )
        super().__init__(embed_dims, feedforward_channels, **kwargs)

    def between(self, hidden: Tensor) -> Tensor:
        """Negate the second half of the hidden units."""
        positive, negative = hidden.chunk(2, dim=-1)
        return torch.cat((positive, -negative), dim=-1)
