"""The pre-norm encoder layer, untied or tied; they differ in nothing else."""

from contextlib import nullcontext
from typing import Callable, Tuple

import torch
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks import DropPath
from mmengine.model import BaseModule
from torch import Tensor, nn

from ... import ops
from .attention import SelfAttention
from .mlp import TiedFFN, init_ffn, untied_ffn
from .packed import checked_once
from .sharing import owns
from .tied_attention import TiedSelfAttention
from .untouched import are_untouched


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
        drop_path_rate: Probability that a sample skips a branch, below 1.
        qkv_bias: Whether attention has biases.
        norm_cfg: The norm before each branch.
        act: ``'gelu'`` (erf) or ``'gelu_tanh'``.
        window_size: Side of the attention windows, 0 for the whole grid.
        ffn_init_scale: Factor of the FFN's matrices at the start.
        upcast_attention: Whether attention itself, without its projections,
            is computed in float32 under autocast as well.
        attention_scale: Factor of the scores, see :class:`SelfAttention`.
        attn_cls: Builds the attention, from the arguments of
            :class:`SelfAttention`.
        ffn_cls: Builds the FFN, from the arguments of :func:`.untied_ffn`.
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
        attention_scale: float = 1.0,
        attn_cls: Callable[..., nn.Module] = SelfAttention,
        ffn_cls: Callable[..., nn.Module] = untied_ffn,
    ) -> None:
        super().__init__()
        self.ffn_init_scale = ffn_init_scale
        self.ln1 = build_norm_layer(norm_cfg, embed_dims)[1]
        self.attn = attn_cls(
            embed_dims,
            num_heads,
            qkv_bias=qkv_bias,
            attn_drop_rate=attn_drop_rate,
            proj_drop_rate=drop_rate,
            window_size=window_size,
            upcast_attention=upcast_attention,
            attention_scale=attention_scale,
        )
        self.ln2 = build_norm_layer(norm_cfg, embed_dims)[1]
        self.ffn = ffn_cls(
            embed_dims, feedforward_channels, act=act, drop_rate=drop_rate
        )
        if not 0 <= drop_path_rate < 1:
            raise ValueError(
                f'drop_path_rate={drop_path_rate} must be at least 0 and '
                'below 1'
            )
        self.drop_path = DropPath(drop_path_rate)

    def init_weights(self) -> None:
        """As mmpretrain's: Xavier matrices and small biases in the FFN."""
        super().init_weights()
        if owns(self, 'ffn'):  # else its owner initialises it, once
            init_ffn(self.ffn, self.ffn_init_scale)

    def forward(self, x: Tensor, hw: Tuple[int, int]) -> Tensor:
        """Apply the layer.

        Args:
            x: (B, T, D).
            hw: The grid's height and width in tokens.

        Returns:
            (B, T, D).
        """
        x = x + self.drop_path(self.attn(self.ln1(x), hw))
        return x + self.drop_path(self.ffn(self.ln2(x)))


class TiedEncoderLayer(EncoderLayer):
    """HaLViT's layer: three matrices instead of six (Sec. 3.1).

    Args:
        args, kwargs: As for :class:`EncoderLayer`.
        attn_cls: A tied attention.
        ffn_cls: A tied FFN.
    """

    def __init__(
        self,
        *args,
        attn_cls: Callable[..., nn.Module] = TiedSelfAttention,
        ffn_cls: Callable[..., nn.Module] = TiedFFN,
        **kwargs,
    ) -> None:
        super().__init__(*args, attn_cls=attn_cls, ffn_cls=ffn_cls, **kwargs)

    def forward(self, x: Tensor, hw: Tuple[int, int]) -> Tensor:
        """Apply the layer by its operators, see :class:`EncoderLayer`."""
        ln1, ln2 = self.ln1, self.ln2
        bypassed = (ln1, nn.LayerNorm), (ln2, nn.LayerNorm)
        if (
            not are_untouched(*bypassed, (self.drop_path, DropPath))
            or ln1.bias is None
            or ln2.bias is None
        ):
            return super().forward(x, hw)
        # Norms in the data type that the projections take, and the first sum
        # inside the second norm; the second sum ends the layer, so that
        # whatever stands between layers sees x -> x.
        attn, ffn, drop_path = self.attn, self.ffn, self.drop_path
        drop_prob = drop_path.drop_prob if drop_path.training else 0.0
        attn_packed = getattr(attn, 'packed', None)
        ffn_packed = getattr(ffn, 'packed', None)
        with checked_once() if attn_packed or ffn_packed else nullcontext():
            dtype = attn.packed_dtype if attn_packed else None
            y = ops.layer_norm(x, ln1.weight, ln1.bias, ln1.eps, dtype=dtype)
            y, scale = attn(y, hw), None
            if drop_prob:
                scale = _kept(x, drop_prob, torch.float32) / (1 - drop_prob)
            dtype = ffn.packed_dtype if ffn_packed else None
            x, y = ops.add_layer_norm(
                x, y, ln2.weight, ln2.bias, ln2.eps, scale, dtype=dtype
            )
            y = ffn(y)
        if not drop_prob:
            return x + y
        kept = _kept(y, drop_prob, y.dtype)[:, None, None]
        with ops.without_autocast(x):  # on a GPU it would copy y in float32
            return torch.addcmul(x, y, kept, value=1 / (1 - drop_prob))


def _kept(x: Tensor, drop_prob: float, dtype: torch.dtype) -> Tensor:
    """Choose the samples that keep a branch, as :class:`DropPath` does.

    Args:
        x: (B, T, D).
        drop_prob: Below 1.
        dtype: Of the random numbers: :class:`DropPath` takes the branch's.

    Returns:
        Bool, (B,).
    """
    random = torch.rand(x.shape[0], dtype=dtype, device=x.device)
    return random + (1 - drop_prob) >= 1
