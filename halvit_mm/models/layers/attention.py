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
from .gain import learnt_gain
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
        upcast_attention: Whether scores and weighted sums are computed in
            float32 under autocast as well: steadier, more memory; on CPUs
            also faster, where PyTorch's 16-bit backward pass is slow.

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
        upcast_attention: bool = False,
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
        self.upcast_attention = upcast_attention
        self.proj_drop = nn.Dropout(proj_drop_rate)

    @abstractmethod
    def project_qkv(
        self, x: Tensor, shared: Optional[nn.Module]
    ) -> Tuple[Optional[Tensor], ...]:
        """Project the input.

        Args:
            x: (B, T, D).
            shared: As for :meth:`forward`.

        Returns:
            q, k, v, each (B, T, D), and what :meth:`project_out` can use
            again, or None.
        """

    @abstractmethod
    def project_out(
        self,
        o: Tensor,
        packed: Optional[Tensor],
        shared: Optional[nn.Module],
    ) -> Tensor:
        """Project the heads' outputs.

        Args:
            o: (B, T, D).
            packed: Last result of :meth:`project_qkv`.
            shared: As for :meth:`forward`.

        Returns:
            (B, T, D).
        """

    def forward(
        self,
        x: Tensor,
        hw: Tuple[int, int],
        shared: Optional[nn.Module] = None,
    ) -> Tensor:
        """Attend.

        Args:
            x: (B, T, D); without prefix tokens where windows are used.
            hw: The grid's height and width in tokens.
            shared: A module of the same class that holds the weights which
                this one has not.

        Returns:
            (B, T, D).
        """
        B, T, D = x.shape
        heads = (B, T, self.num_heads, D // self.num_heads)
        *qkv, packed = self.project_qkv(x, shared)
        q, k, v = (t.reshape(heads).transpose(1, 2) for t in qkv)
        if self.window_size:
            o = self._attend_windows(q, k, v, hw)
        else:
            o = self._attend(q, k, v)
        o = o.transpose(1, 2).reshape(B, T, D)
        return self.proj_drop(self.project_out(o, packed, shared))

    def _attend(self, q, k, v, mask=None) -> Tensor:
        dropout = self.attn_drop_rate if self.training else 0.0
        if not self.upcast_attention:
            return F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, dropout_p=dropout
            )
        dtype = torch.promote_types(q.dtype, torch.float32)
        with ops.without_autocast(q):
            o = F.scaled_dot_product_attention(
                *(t.to(dtype) for t in (q, k, v)),
                attn_mask=mask,
                dropout_p=dropout,
            )
        return o.to(q.dtype)

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

    def project_qkv(
        self, x: Tensor, shared: Optional[nn.Module]
    ) -> Tuple[Optional[Tensor], ...]:
        """Args: x: (B, T, D). Returns: q, k, v, each (B, T, D), and None."""
        return *self.qkv(x).chunk(3, dim=-1), None

    def project_out(
        self,
        o: Tensor,
        packed: Optional[Tensor],
        shared: Optional[nn.Module],
    ) -> Tensor:
        """Args: o: (B, T, D). Returns: (B, T, D)."""
        return self.proj(o)


class TiedSelfAttention(PreparedModule, _SelfAttentionBase):
    """HaLViT's attention: two square matrices instead of four (Sec. 3.1).

    ``q`` holds ``Wq`` with the biases of the query and of the output, ``kv``
    holds ``Wkv`` with the biases of key and value.

    Args: As for the base class, and
        qkv_bias: Whether q, k and v have biases.
        gain: One of :data:`.gain.GAINS`; what is not learnt leaves attention
            as it is.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        qkv_bias: bool = True,
        gain: str = 'none',
        **kwargs,
    ) -> None:
        super().__init__(embed_dims, num_heads, **kwargs)
        self.gain = learnt_gain(embed_dims, gain)
        self.q = TiedLinear(embed_dims, embed_dims, bias=qkv_bias)
        self.kv = TiedLinear(
            embed_dims, embed_dims, bias=qkv_bias, transposed_bias=qkv_bias
        )

    def pack(self, dtype: torch.dtype) -> Dict[str, Optional[Tensor]]:
        """``[Wq; Wkv; Wkv^T]``, their biases, the output's and its gain."""
        wq, bq, bo = self.q.weights()
        wkv, bk, bv = self.kv.weights()
        return dict(
            qkv_weight=ops.pack_qkv(wq, wkv, dtype),
            qkv_bias=None if bq is None else torch.cat((bq, bk, bv)).to(dtype),
            out_bias=bo.to(dtype),
            gain=None if self.gain is None else self.gain().to(dtype),
        )

    def project_qkv(
        self, x: Tensor, shared: Optional[nn.Module]
    ) -> Tuple[Optional[Tensor], ...]:
        """Args: x: (B, T, D). Returns: q, k, v, and the cast matrices."""
        if prepared := self.prepared_weights:
            packed = prepared['qkv_weight']
            return *ops.packed_qkv(x, packed, prepared['qkv_bias']), packed
        wq, bq, _ = self.q.weights(shared and shared.q)
        wkv, bk, bv = self.kv.weights(shared and shared.kv)
        return ops.tied_qkv(x, wq, wkv, bq, bk, bv)

    def project_out(
        self,
        o: Tensor,
        packed: Optional[Tensor],
        shared: Optional[nn.Module],
    ) -> Tensor:
        """Args: o: (B, T, D); packed: cast matrices. Returns: (B, T, D)."""
        if prepared := self.prepared_weights:
            wq = packed[: self.q.out_features]
            with ops.without_autocast(o):
                # autocast may have cast inside the attention
                return ops.tied_out(
                    o.to(wq.dtype), wq, prepared['out_bias'], prepared['gain']
                )
        wq, _, bias = self.q.weights(shared and shared.q)
        gain = self.gain and self.gain(shared and shared.gain)
        return ops.tied_out(o, wq, bias, gain, packed=packed)
