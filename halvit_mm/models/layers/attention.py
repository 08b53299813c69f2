"""Self-attention over the whole grid or in windows; here untied.

Shapes: B batch, T tokens, D width, h heads, d = D / h.
"""

import math
from typing import Tuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ... import ops
from .window import window_padding_mask, window_partition, window_unpartition


class SelfAttentionBase(BaseModule):
    """What tied and untied attention have in common: all but projections.

    Args:
        embed_dims: D.
        num_heads: h, a divisor of D.
        attn_drop_rate: Dropout of the attention weights.
        proj_drop_rate: Dropout of the output.
        window_size: Side of the windows in tokens, 0 for the whole grid.
        upcast_attention: Whether scores and weighted sums are computed in
            float32 under autocast as well: steadier, and more memory; faster
            on CPUs, where PyTorch's 16-bit backward pass is slow.
        attention_scale: tau in the softmax of ``tau q k^T / sqrt(d)``.

    Raises:
        ValueError: If D is not divisible by h, or tau is not positive.
    """

    #: What checkpoints say of the tying, see :class:`.VariantMark`.
    tying = ''

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        attn_drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        window_size: int = 0,
        upcast_attention: bool = False,
        attention_scale: float = 1.0,
    ) -> None:
        super().__init__()
        if not attention_scale > 0:
            raise ValueError(
                f'attention_scale={attention_scale} is to be positive'
            )
        if embed_dims % num_heads:
            raise ValueError(
                f'embed_dims={embed_dims} is not divisible by '
                f'num_heads={num_heads}'
            )
        self.num_heads = num_heads
        self.attn_drop_rate = attn_drop_rate
        self.window_size = window_size
        self.upcast_attention = upcast_attention
        self.scale = attention_scale / math.sqrt(embed_dims // num_heads)
        scaled = '' if attention_scale == 1 else f'+tau{attention_scale:g}'
        self.variant = self.tying + scaled
        self.proj_drop = nn.Dropout(proj_drop_rate)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, hw: Tuple[int, int]
    ) -> Tensor:
        """Attend with all heads, over the whole grid or in windows.

        Args:
            q, k, v: (B, T, D); without prefix tokens where windows are used.
            hw: The grid's height and width in tokens.

        Returns:
            The heads' outputs side by side, (B, T, D).
        """
        B, T, D = q.shape
        heads = (B, T, self.num_heads, D // self.num_heads)
        q = q.reshape(heads).transpose(1, 2)
        k = k.reshape(heads).transpose(1, 2)
        v = v.reshape(heads).transpose(1, 2)
        if self.window_size:
            o = self._attend_windows(q, k, v, hw)
        else:
            o = self._attend(q, k, v)
        return o.transpose(1, 2).reshape(B, T, D)

    def _attend(self, q, k, v, mask=None) -> Tensor:
        dropout = self.attn_drop_rate if self.training else 0.0
        if not self.upcast_attention:
            return F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, dropout_p=dropout, scale=self.scale
            )
        dtype = torch.promote_types(q.dtype, torch.float32)
        with ops.without_autocast(q):
            o = F.scaled_dot_product_attention(
                *(t.to(dtype) for t in (q, k, v)),
                attn_mask=mask,
                dropout_p=dropout,
                scale=self.scale,
            )
        return o.to(q.dtype)

    def _attend_windows(self, q, k, v, hw) -> Tensor:
        # The projections ran before the cut, so that padding costs nothing
        # there; it is masked, so that results do not depend on it.
        B = q.shape[0]
        q, k, v = (
            window_partition(t, hw, self.window_size) for t in (q, k, v)
        )
        mask = window_padding_mask(hw, self.window_size, q.device)
        if mask is not None:
            mask = mask.repeat(B, 1, 1, 1)
        o = self._attend(q, k, v, mask)
        return window_unpartition(o, hw, self.window_size)


class SelfAttention(SelfAttentionBase):
    """Untied attention with the parameter names of mmpretrain's ViT.

    Args:
        embed_dims: D.
        num_heads: h, a divisor of D.
        qkv_bias: Whether q, k and v have biases.
        kwargs: As for the base class.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, qkv_bias: bool = True, **kwargs
    ) -> None:
        super().__init__(embed_dims, num_heads, **kwargs)
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims, bias=qkv_bias)
        self.proj = nn.Linear(embed_dims, embed_dims)

    def forward(self, x: Tensor, hw: Tuple[int, int]) -> Tensor:
        """Apply attention.

        Args:
            x: (B, T, D).
            hw: The grid's height and width in tokens.

        Returns:
            (B, T, D).
        """
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return self.proj_drop(self.proj(self.attend(q, k, v, hw)))
