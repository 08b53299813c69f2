"""Self-attention, untied and tied, over the whole grid or in windows.

Shapes: B batch, T tokens, D width, h heads, d = D / h.
"""

from abc import ABCMeta, abstractmethod
from typing import Dict, Optional, Tuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ... import ops
from .prepared import PreparedModule
from .tied_linear import TiedLinear
from .window import window_padding_mask, window_partition, window_unpartition

__all__ = ['SelfAttention', 'TiedSelfAttention']


class _SelfAttentionBase(BaseModule, metaclass=ABCMeta):
    """What tied and untied attention have in common: all but projections.

    Args:
        embed_dims: D.
        num_heads: h, a divisor of D.
        attn_drop_rate: Dropout of the attention weights.
        proj_drop_rate: Dropout of the output.
        window_size: Side of the windows in tokens, 0 for the whole grid.

    Raises:
        ValueError: If D is not divisible by h.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        attn_drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        window_size: int = 0,
    ) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise ValueError(
                f'embed_dims={embed_dims} is not divisible by '
                f'num_heads={num_heads}'
            )
        self.num_heads = num_heads
        self.attn_drop_rate = attn_drop_rate
        self.window_size = window_size
        self.proj_drop = nn.Dropout(proj_drop_rate)

    @abstractmethod
    def project_qkv(self, x: Tensor) -> Tuple[Optional[Tensor], ...]:
        """Project the input.

        Args:
            x: (B, T, D).

        Returns:
            q, k, v, each (B, T, D), and what :meth:`project_out` can use
            again, or None.
        """

    @abstractmethod
    def project_out(self, o: Tensor, packed: Optional[Tensor]) -> Tensor:
        """Project the heads' outputs.

        Args:
            o: (B, T, D).
            packed: Last result of :meth:`project_qkv`.

        Returns:
            (B, T, D).
        """

    def forward(self, x: Tensor, hw: Tuple[int, int]) -> Tensor:
        """Attend.

        Args:
            x: (B, T, D); without prefix tokens where windows are used.
            hw: The grid's height and width in tokens.

        Returns:
            (B, T, D).
        """
        B, T, D = x.shape
        heads = (B, T, self.num_heads, D // self.num_heads)
        *qkv, packed = self.project_qkv(x)
        q, k, v = (t.reshape(heads).transpose(1, 2) for t in qkv)
        if self.window_size:
            o = self._attend_windows(q, k, v, hw)
        else:
            o = self._attend(q, k, v)
        o = o.transpose(1, 2).reshape(B, T, D)
        return self.proj_drop(self.project_out(o, packed))

    def _attend(self, q, k, v, mask=None) -> Tensor:
        dropout = self.attn_drop_rate if self.training else 0.0
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=dropout
        )

    def _attend_windows(self, q, k, v, hw) -> Tensor:
        # The projections ran before the cut, so that padding costs nothing
        # there; it is masked, so that results do not depend on it.
        B = len(q)
        q, k, v = (
            window_partition(t, hw, self.window_size) for t in (q, k, v)
        )
        mask = window_padding_mask(hw, self.window_size, q.device)
        if mask is not None:
            mask = mask.repeat(B, 1, 1, 1)
        o = self._attend(q, k, v, mask)
        return window_unpartition(o, hw, self.window_size)


class SelfAttention(_SelfAttentionBase):
    """Untied attention with the parameter names of mmpretrain's ViT.

    Args: As for the base class, and
        qkv_bias: Whether q, k and v have biases.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, qkv_bias: bool = True, **kwargs
    ) -> None:
        super().__init__(embed_dims, num_heads, **kwargs)
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims, bias=qkv_bias)
        self.proj = nn.Linear(embed_dims, embed_dims)

    def project_qkv(self, x: Tensor) -> Tuple[Optional[Tensor], ...]:
        """Args: x: (B, T, D). Returns: q, k, v, each (B, T, D), and None."""
        return *self.qkv(x).chunk(3, dim=-1), None

    def project_out(self, o: Tensor, packed: Optional[Tensor]) -> Tensor:
        """Args: o: (B, T, D); packed: None. Returns: (B, T, D)."""
        return self.proj(o)


class TiedSelfAttention(PreparedModule, _SelfAttentionBase):
    """HaLViT's attention: two square matrices instead of four (Sec. 3.1).

    ``q`` holds ``Wq`` with the biases of the query and of the output, ``kv``
    holds ``Wkv`` with the biases of key and value.

    Args: As for the base class, and
        qkv_bias: Whether q, k and v have biases.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, qkv_bias: bool = True, **kwargs
    ) -> None:
        super().__init__(embed_dims, num_heads, **kwargs)
        self.q = TiedLinear(embed_dims, embed_dims, bias=qkv_bias)
        self.kv = TiedLinear(
            embed_dims, embed_dims, bias=qkv_bias, transposed_bias=qkv_bias
        )

    def pack(self, dtype: torch.dtype) -> Dict[str, Optional[Tensor]]:
        """``[Wq; Wkv; Wkv^T]``, their biases and the output's."""
        biases = (self.q.bias, self.kv.bias, self.kv.transposed_bias)
        return dict(
            qkv_weight=ops.pack_qkv(self.q.weight, self.kv.weight, dtype),
            qkv_bias=None if None in biases else torch.cat(biases).to(dtype),
            out_bias=self.q.transposed_bias.to(dtype),
        )

    def project_qkv(self, x: Tensor) -> Tuple[Optional[Tensor], ...]:
        """Args: x: (B, T, D). Returns: q, k, v, and the cast matrices."""
        if prepared := self.prepared_weights:
            packed = prepared['qkv_weight']
            return *ops.packed_qkv(x, packed, prepared['qkv_bias']), packed
        return ops.tied_qkv(
            x,
            self.q.weight,
            self.kv.weight,
            self.q.bias,
            self.kv.bias,
            self.kv.transposed_bias,
        )

    def project_out(self, o: Tensor, packed: Optional[Tensor]) -> Tensor:
        """Args: o: (B, T, D); packed: cast matrices. Returns: (B, T, D)."""
        if prepared := self.prepared_weights:
            wq = packed[: self.q.out_features]
            with ops.without_autocast(o):
                # autocast may have cast inside the attention
                return ops.tied_out(o.to(wq.dtype), wq, prepared['out_bias'])
        return ops.tied_out(
            o, self.q.weight, self.q.transposed_bias, packed=packed
        )
