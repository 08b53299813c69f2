"""The tied layer with its casts done once, in plain PyTorch."""

from typing import Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...models.layers import TiedEncoderLayer
from ...ops import compute_dtype, reference

__all__ = ['HoistedEncoderLayer']


class HoistedEncoderLayer(TiedEncoderLayer):
    """What can be had without operators of one's own.

    Autocast casts a norm's output once per product and a tied matrix once
    per use, for it does not recognise a view. Here each is cast once. Whole
    grid, no dropout.

    Args: As for :class:`halvit_mm.models.layers.TiedEncoderLayer`.
    """

    def forward(self, x: Tensor, hw: Tuple[int, int]) -> Tensor:
        """Args: x: (B, T, D); hw: not used. Returns: (B, T, D)."""
        dtype = compute_dtype(x)
        with torch.autocast(x.device.type, enabled=False):
            x = x + self._attend_once(self.ln1(x).to(dtype))
            tied = self.ffn.tied
            parameters = (tied.weight, tied.bias, tied.transposed_bias)
            return x + reference.tied_ffn(
                self.ln2(x).to(dtype),
                *(p.to(dtype) for p in parameters),
                self.ffn.approximate,
            )

    def _attend_once(self, y: Tensor) -> Tensor:
        """Args: y: (B, T, D). Returns: (B, T, D)."""
        q, kv = self.attn.q, self.attn.kv
        wq, wkv, bq, bk, bv, bo = (
            p.to(y.dtype)
            for p in (
                q.weight,
                kv.weight,
                q.bias,
                kv.bias,
                kv.transposed_bias,
                q.transposed_bias,
            )
        )
        heads = (
            t.unflatten(-1, (self.attn.num_heads, -1)).transpose(1, 2)
            for t in reference.tied_qkv(y, wq, wkv, bq, bk, bv)
        )
        o = F.scaled_dot_product_attention(*heads)
        return reference.tied_out(o.transpose(1, 2).flatten(2), wq, bo)
