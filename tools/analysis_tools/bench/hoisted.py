"""A tied layer in plain PyTorch that casts each tensor once."""

from typing import Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from halvit_mm.models.layers import TiedEncoderLayer
from halvit_mm.ops import compute_dtype, reference


class HoistedEncoderLayer(TiedEncoderLayer):
    """The best that plain PyTorch can do, without own operators.

    Autocast casts a norm's output once per product and a tied matrix once
    per use, for it does not recognise a view. Here each is cast once. The
    attention is over the whole grid, without dropout. The arguments are those
    of :class:`halvit_mm.models.layers.TiedEncoderLayer`.
    """

    def forward(self, x: Tensor, hw: Tuple[int, int]) -> Tensor:
        """Map (B, T, D) to (B, T, D); ``hw`` has no effect."""
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
