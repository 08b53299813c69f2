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
from .sharing import norm_weights
from .tied_linear import TiedLinear

__all__ = ['EncoderLayer', 'FFNHolder', 'TiedEncoderLayer']


def _init_ffn(ffn: nn.Module, scale: float) -> None:
    """As mmpretrain's: Xavier matrices, scaled, and small biases."""
    for module in ffn.modules():
        if not isinstance(module, nn.Linear):
            continue
        biases = [module.bias]
        if isinstance(module, TiedLinear):
            biases.append(module.transposed_bias)
        if module.weight is not None:  # else another layer holds it
            nn.init.xavier_uniform_(module.weight, gain=scale)
        for bias in biases:
            if bias is not None:
                nn.init.normal_(bias, std=1e-6)


class FFNHolder(BaseModule):
    """Holds an FFN for layers that share it.

    Args:
        ffn: The FFN.
        ffn_init_scale: As for :class:`EncoderLayer`.
    """

    def __init__(self, ffn: nn.Module, ffn_init_scale: float = 1.0) -> None:
        super().__init__()
        self.ffn = ffn
        self.ffn_init_scale = ffn_init_scale

    def init_weights(self) -> None:
        """As an :class:`EncoderLayer` does."""
        super().init_weights()
        _init_ffn(self.ffn, self.ffn_init_scale)


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
        ffn_init_scale: Factor of the FFN's matrices at the start.
        upcast_attention: Whether attention itself, without its projections,
            is computed in float32 under autocast as well.
    """

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
        ffn_init_scale: float = 1.0,
        upcast_attention: bool = False,
    ) -> None:
        super().__init__()
        self.ffn_init_scale = ffn_init_scale
        self.ln1 = build_norm_layer(norm_cfg, embed_dims)[1]
        self.attn = self._build_attention(
            embed_dims,
            num_heads,
            qkv_bias=qkv_bias,
            attn_drop_rate=attn_drop_rate,
            proj_drop_rate=drop_rate,
            window_size=window_size,
            upcast_attention=upcast_attention,
        )
        self.ln2 = build_norm_layer(norm_cfg, embed_dims)[1]
        self.ffn = self._build_ffn(
            embed_dims, feedforward_channels, act, drop_rate
        )
        self.drop_path = DropPath(drop_path_rate)

    def _build_attention(self, *args, **kwargs):
        return SelfAttention(*args, **kwargs)

    def _build_ffn(self, embed_dims, feedforward_channels, act, drop_rate):
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
        if self.ffn is not None:
            _init_ffn(self.ffn, self.ffn_init_scale)

    def forward(
        self,
        x: Tensor,
        hw: Tuple[int, int],
        shared: Optional[nn.Module] = None,
    ) -> Tensor:
        """Apply the layer.

        Args:
            x: (B, T, D).
            hw: The grid's height and width in tokens.
            shared: Holds the FFN, where this layer's own is None.

        Returns:
            (B, T, D).
        """
        x = x + self.drop_path(self.attn(self.ln1(x), hw))
        ffn = self.ffn if shared is None else shared.ffn
        return x + self.drop_path(ffn(self.ln2(x)))


class TiedEncoderLayer(EncoderLayer):
    """HaLViT's layer: three matrices instead of six (Sec. 3.1).

    Args: As for :class:`EncoderLayer`, and
        gain: One of :data:`.gain.GAINS`.
        out_gain: The same for attention's output alone, where it is to
            differ.
        hidden_shift: As for :class:`.mlp.TiedFFN`.
    """

    def __init__(
        self,
        *args,
        gain: str = 'none',
        out_gain: Optional[str] = None,
        hidden_shift: int = 0,
        **kwargs,
    ) -> None:
        self.hidden_shift = hidden_shift
        self.gain = gain
        if out_gain == 'signed':
            raise ValueError(
                "out_gain='signed': fixed signs are for hidden units only"
            )
        self.out_gain = gain if out_gain is None else out_gain
        super().__init__(*args, **kwargs)

    def _build_attention(self, *args, **kwargs):
        return TiedSelfAttention(*args, gain=self.out_gain, **kwargs)

    def _build_ffn(self, embed_dims, feedforward_channels, act, drop_rate):
        return TiedFFN(
            embed_dims,
            feedforward_channels,
            act,
            drop_rate,
            self.gain,
            self.hidden_shift,
        )

    def forward(
        self,
        x: Tensor,
        hw: Tuple[int, int],
        shared: Optional['TiedEncoderLayer'] = None,
    ) -> Tensor:
        """Apply the layer.

        Args:
            x: (B, T, D).
            hw: The grid's height and width in tokens.
            shared: Holds the parameters that this layer has not.

        Returns:
            (B, T, D).
        """
        plain = _is_plain(self.ln1) and _is_plain(self.ln2)
        if shared is None and not plain:
            return super().forward(x, hw)
        # Norms in the dtype that the projections take, and the first sum
        # inside the second norm; the second sum ends the layer, so that
        # whatever stands between layers sees x -> x.
        norm1 = norm_weights(self.ln1, shared and shared.ln1)
        norm2 = norm_weights(self.ln2, shared and shared.ln2)
        y = ops.layer_norm(x, *norm1, dtype=self.attn.prepared_dtype)
        delta = self.attn(y, hw, shared and shared.attn)
        x, y = ops.add_layer_norm(
            x,
            delta,
            *norm2,
            row_scale=self._drop_path_scale(x),
            dtype=self.ffn.prepared_dtype,
        )
        return x + self.drop_path(self.ffn(y, shared and shared.ffn))

    def _drop_path_scale(self, x: Tensor) -> Optional[Tensor]:
        """Args: x: (B, T, D). Returns: (B,), factors of a branch, or None.

        What :class:`DropPath` multiplies by, as a factor per sample.
        """
        if not (self.training and self.drop_path.drop_prob):
            return None
        ones = torch.ones(len(x), device=x.device)
        return self.drop_path(ones)
