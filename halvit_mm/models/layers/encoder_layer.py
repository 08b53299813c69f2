"""The pre-norm encoder layer, untied or tied; they differ in nothing else."""

from typing import Optional, Tuple

import torch
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks import DropPath
from mmcv.cnn.bricks.transformer import FFN
from mmengine.model import BaseModule
from torch import Tensor, nn

from ... import ops
from .attention import SelfAttention, TiedSelfAttention
from .mlp import GELU_FORMS, TiedFFN
from .tied_linear import TiedLinear

__all__ = ['EncoderLayer', 'TiedEncoderLayer']


def _is_plain(norm: nn.Module) -> bool:
    """Whether an operator can stand for the norm: nobody would notice."""
    hooks = (*norm._forward_hooks, *norm._forward_pre_hooks)
    return (
        type(norm) is nn.LayerNorm
        and norm.weight is not None
        and norm.bias is not None
        and not hooks
    )


class EncoderLayer(BaseModule):
    r"""The layer of ViT (Dosovitskiy et al., 2021), Eqs. 2 and 3.

    .. math:: x \leftarrow x + attn(LN_1(x)),\quad
              x \leftarrow x + ffn(LN_2(x))

    Parameter names and initialisation are those of mmpretrain's ViT.

    Args:
        embed_dims: D.
        num_heads: h, a divisor of D.
        feedforward_channels: Hidden width of the FFN.
        drop_rate: Dropout after attention and FFN.
        attn_drop_rate: Dropout of the attention weights.
        drop_path_rate: Probability that a sample skips a branch.
        qkv_bias: Whether attention has biases.
        norm_cfg: The norm before each branch.
        act: ``'gelu'`` (erf) or ``'gelu_tanh'``.
        window_size: Side of the attention windows, 0 for the whole grid.
    """

    attention_cls = SelfAttention

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        *,
        norm_cfg: dict,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        qkv_bias: bool = True,
        act: str = 'gelu',
        window_size: int = 0,
    ) -> None:
        super().__init__()
        self.ln1 = build_norm_layer(norm_cfg, embed_dims)[1]
        self.attn = self.attention_cls(
            embed_dims,
            num_heads,
            qkv_bias=qkv_bias,
            attn_drop_rate=attn_drop_rate,
            proj_drop_rate=drop_rate,
            window_size=window_size,
        )
        self.ln2 = build_norm_layer(norm_cfg, embed_dims)[1]
        self.ffn = self._build_ffn(
            embed_dims, feedforward_channels, act, drop_rate
        )
        self.drop_path = DropPath(drop_path_rate)

    @staticmethod
    def _build_ffn(embed_dims, feedforward_channels, act, drop_rate):
        return FFN(
            embed_dims,
            feedforward_channels,
            ffn_drop=drop_rate,
            act_cfg=dict(type='GELU', approximate=GELU_FORMS[act]),
            add_identity=False,
        )

    def init_weights(self) -> None:
        """As mmpretrain's: Xavier matrices and small biases in the FFN."""
        super().init_weights()
        for module in self.ffn.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.normal_(module.bias, std=1e-6)
            if isinstance(module, TiedLinear):
                nn.init.normal_(module.transposed_bias, std=1e-6)

    def forward(self, x: Tensor, hw: Tuple[int, int]) -> Tensor:
        """Args: x: (B, T, D); hw: grid in tokens. Returns: (B, T, D)."""
        x = x + self.drop_path(self.attn(self.ln1(x), hw))
        return x + self.drop_path(self.ffn(self.ln2(x)))


class TiedEncoderLayer(EncoderLayer):
    """HaLViT's layer: three matrices instead of six (Sec. 3.1).

    Args: As for :class:`EncoderLayer`.
    """

    attention_cls = TiedSelfAttention

    @staticmethod
    def _build_ffn(embed_dims, feedforward_channels, act, drop_rate):
        return TiedFFN(embed_dims, feedforward_channels, act, drop_rate)

    def forward(self, x: Tensor, hw: Tuple[int, int]) -> Tensor:
        """Args: x: (B, T, D); hw: grid in tokens. Returns: (B, T, D)."""
        if not (_is_plain(self.ln1) and _is_plain(self.ln2)):
            return super().forward(x, hw)
        # Norms in the dtype that the projections take, and the first sum
        # inside the second norm; the second sum ends the layer, so that
        # whatever stands between layers sees x -> x.
        norm1, norm2 = self.ln1, self.ln2
        dtype = self.attn.prepared_dtype
        y = ops.layer_norm(x, norm1.weight, norm1.bias, norm1.eps, dtype)
        x, y = ops.add_layer_norm(
            x,
            self.attn(y, hw),
            norm2.weight,
            norm2.bias,
            norm2.eps,
            self._drop_path_scale(x),
            self.ffn.prepared_dtype,
        )
        return x + self.drop_path(self.ffn(y))

    def _drop_path_scale(self, x: Tensor) -> Optional[Tensor]:
        """Args: x: (B, T, D). Returns: (B,), factors of a branch, or None.

        What :class:`DropPath` multiplies by, as a factor per sample.
        """
        if not (self.training and self.drop_path.drop_prob):
            return None
        ones = torch.ones(len(x), device=x.device)
        return self.drop_path(ones)
