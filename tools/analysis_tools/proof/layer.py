"""One tied layer, from the public operators alone.

It is that of :class:`halvit_mm.models.layers.TiedEncoderLayer`, which needs
the hosts. The same calls are plain formulas under ``ops.use('plain')``.

Shapes: B batch, T tokens of an image, D width, F hidden width (4 D).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from halvit_mm import ops

EPS = 1e-6
HEAD_WIDTH = 64


class TiedLayer(nn.Module):
    """HaLViT's layer with random weights.

    Args:
        width: D, a multiple of 64.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // HEAD_WIDTH
        hidden, scale = 4 * width, width**-0.5
        self.norm1, self.norm2 = (nn.LayerNorm(width, EPS) for _ in range(2))
        self.wq = nn.Parameter(scale * torch.randn(width, width))
        self.wkv = nn.Parameter(scale * torch.randn(width, width))
        self.w = nn.Parameter(scale * torch.randn(hidden, width))
        for name in ('bq', 'bk', 'bv', 'bo', 'b2'):
            self.register_parameter(name, nn.Parameter(torch.zeros(width)))
        self.b1 = nn.Parameter(torch.zeros(hidden))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D), with attention over all tokens."""
        norm1, norm2 = self.norm1, self.norm2
        y = ops.layer_norm(x, norm1.weight, norm1.bias, EPS)
        *qkv, packed = ops.tied_qkv(
            y, self.wq, self.wkv, self.bq, self.bk, self.bv
        )
        heads = (t.unflatten(-1, (self.heads, -1)) for t in qkv)
        o = F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in heads))
        o = o.transpose(1, 2).flatten(2)
        o = ops.tied_out(o, self.wq, self.bo, packed=packed)
        x, y = ops.add_layer_norm(x, o, norm2.weight, norm2.bias, EPS)
        return x + ops.tied_ffn(y, self.w, self.b1, self.b2)
