"""Self-attention of two square matrices instead of four.

Shapes: B batch, T tokens, D width, h heads.
"""

from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor, nn

from ... import ops
from .attention import SelfAttentionBase
from .packed import PackedModule
from .tied_linear import RepeatedLinear, TiedLinear, tied_linear_in
from .untouched import are_untouched


class _TwoMatrices(PackedModule, SelfAttentionBase):
    """What both tied attentions do with packed weights.

    Packed are, one below the other, ``W`` of a projection and the output, and
    ``V`` and its transpose, of two projections.
    """

    #: Names of the layers that hold ``W`` and ``V``.
    linears: Tuple[str, str]
    #: Whether ``W`` is the matrix of the value, applied twice, or else that
    #: of the query, whose transpose makes the output.
    repeats = False

    def bypassed(self) -> List[Tuple[nn.Module, type]]:
        """Return the two layers whose weights are packed."""
        return [(getattr(self, name), TiedLinear) for name in self.linears]

    def pack(self, dtype: torch.dtype) -> Dict[str, Optional[Tensor]]:
        """Cast ``[W; V; V^T]``, their biases and the output's."""
        w, v = (getattr(self, name) for name in self.linears)
        biases = (w.bias, v.bias, v.transposed.bias)
        has_bias = biases[0] is not None
        return dict(
            weight=ops.pack_qkv(w.weight, v.weight, dtype),
            bias=torch.cat(biases).to(dtype) if has_bias else None,
            out_bias=w.transposed.bias.to(dtype),
        )

    def _attend_packed(self, x, hw, weight, bias, out_bias) -> Tensor:
        dtype = self.rounded_to
        first, *others = ops.packed_qkv(x, weight, bias, dtype)
        qkv = (*others, first) if self.repeats else (first, *others)
        o = self.attend(*qkv, hw)
        w = weight[: weight.shape[1]]
        with ops.without_autocast(o):
            # autocast may have cast inside the attention
            o = o.to(dtype).to(w.dtype)
            w = w.t() if self.repeats else w
            return ops.tied_out(o, w, out_bias).to(dtype)


class TiedSelfAttention(_TwoMatrices):
    """HaLViT's attention: two square matrices instead of four (Sec. 3.1).

    ``q`` holds ``Wq`` with the biases of the query and of the output, ``kv``
    holds ``Wkv`` with the biases of key and value.

    Args:
        embed_dims: D.
        num_heads: h, a divisor of D.
        qkv_bias: Whether q, k and v have biases.
        kwargs: As for the base class.
    """

    linears = ('q', 'kv')

    def __init__(
        self, embed_dims: int, num_heads: int, qkv_bias: bool = True, **kwargs
    ) -> None:
        super().__init__(embed_dims, num_heads, **kwargs)
        self.q = TiedLinear(embed_dims, embed_dims, bias=qkv_bias)
        self.kv = TiedLinear(
            embed_dims, embed_dims, bias=qkv_bias, transposed_bias=qkv_bias
        )

    def forward(self, x: Tensor, hw: Tuple[int, int]) -> Tensor:
        """Apply attention.

        Args:
            x: (B, T, D).
            hw: The grid's height and width in tokens.

        Returns:
            (B, T, D).
        """
        q, kv = self.q, self.kv
        if packed := self.packed and self.packed_weights:
            y = self._attend_packed(x, hw, **packed)
        elif are_untouched((q, TiedLinear), (kv, TiedLinear)):
            wq = q.weight  # read once: it may be parametrized
            *qkv, cast = ops.tied_qkv(
                x, wq, kv.weight, q.bias, kv.bias, kv.transposed.bias
            )
            o = self.attend(*qkv, hw)
            y = ops.tied_out(o, wq, q.transposed.bias, packed=cast)
        else:
            v = tied_linear_in(kv).forward_second
            o = self.attend(q(x), kv(x), v(x), hw)
            y = tied_linear_in(q).forward_second(o)
        return self.proj_drop(y)


class LikeTiedSelfAttention(_TwoMatrices):
    r"""Attention that ties like with like: q with k, v with the output.

    .. math:: q = A x + b_q,\quad k = A^T x + b_k,\quad v = B x + b_v,\quad
              y = B o + b_o

    Our own step beyond the paper, whose layer ties q with the output and k
    with v: at the start gradients of q and k are smaller than those of v and
    the output by far, so that there an optimiser follows the latter. Stored
    and computed is as much. It is B and not its transpose, for that would
    make the product of value and output of every head positive semi-definite.

    ``qk`` holds ``A`` with the biases of query and key, ``vo`` holds ``B``
    with the biases of value and output.

    Args:
        embed_dims: D.
        num_heads: h, a divisor of D.
        qkv_bias: Whether q, k and v have biases.
        kwargs: As for the base class.
    """

    tying = '+like'
    linears = ('vo', 'qk')
    repeats = True

    def __init__(
        self, embed_dims: int, num_heads: int, qkv_bias: bool = True, **kwargs
    ) -> None:
        super().__init__(embed_dims, num_heads, **kwargs)
        self.qk = TiedLinear(
            embed_dims, embed_dims, bias=qkv_bias, transposed_bias=qkv_bias
        )
        self.vo = RepeatedLinear(embed_dims, bias=qkv_bias)

    def forward(self, x: Tensor, hw: Tuple[int, int]) -> Tensor:
        """Apply attention.

        Args:
            x: (B, T, D).
            hw: The grid's height and width in tokens.

        Returns:
            (B, T, D).
        """
        qk, vo = self.qk, self.vo
        if packed := self.packed and self.packed_weights:
            y = self._attend_packed(x, hw, **packed)
        elif are_untouched((qk, TiedLinear), (vo, TiedLinear)):
            b = vo.weight  # read once: it may be parametrized
            # The operators' names are the paper's: their query is our value,
            # and their output is by the transpose of what they are given.
            v, q, k, _ = ops.tied_qkv(
                x, b, qk.weight, vo.bias, qk.bias, qk.transposed.bias
            )
            # Without the cast that tied_qkv returns: its first rows are B,
            # and those of B^T are asked for.
            y = ops.tied_out(self.attend(q, k, v, hw), b.t(), vo.again.bias)
        else:
            k = tied_linear_in(qk).forward_second(x)
            o = self.attend(qk(x), k, vo(x), hw)
            y = tied_linear_in(vo).forward_second(o)
        return self.proj_drop(y)
