"""The skeleton of every plain ViT here: mmpretrain's, for detection.

Windows, activation checkpointing, rectangular position embeddings, freezing
that lasts, and pretrained weights that are counted when they are loaded.
"""

from typing import Dict, Optional, Sequence, Tuple, Union

import torch
from mmengine.model import ModuleList
from mmpretrain.models.backbones import VisionTransformer
from mmpretrain.models.utils import to_2tuple
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ...registry import MODELS
from ..layers import GELU_FORMS, EncoderLayer, checked_once
from .checks import check_indices, check_multiple, check_windows
from .position_embeddings import PositionEmbeddings
from .pretrained import PretrainedBackbone
from .variant import VariantMark

_ARCH_KEYS = ('embed_dims', 'num_layers', 'num_heads', 'feedforward_channels')


def _arch(*sizes: int) -> Dict[str, int]:
    return dict(zip(_ARCH_KEYS, sizes))


@MODELS.register_module()
class PlainViT(
    PretrainedBackbone, VariantMark, PositionEmbeddings, VisionTransformer
):
    """Untied ViT on the skeleton that HaLViT shares.

    By default it computes what mmpretrain's ``VisionTransformer`` computes,
    from the same state dict.

    Args:
        arch: ``'tiny'`` (12 layers of width 384), ``'medium'`` (12 of 768),
            ``'shallowmlp-base'`` (the same with FFNs of half the width), a
            name of mmpretrain's ``VisionTransformer``, or a dict with
            ``embed_dims``, ``num_layers``, ``num_heads`` and
            ``feedforward_channels``.
        img_size: Height and width in pixels for which position embeddings
            are learnt; other sizes are interpolated.
        patch_size: Side of a patch in pixels.
        out_indices: Layers whose output is returned; negative ones count
            from the end.
        frozen_stages: The stem and this many layers are not trained; they
            stay in eval mode. 0 or less trains everything.
        drop_rate: Dropout after position embedding, attention and FFN.
        drop_path_rate: Stochastic depth of the last layer, rising linearly
            from 0 in the first.
        attn_drop_rate: Dropout of the attention weights.
        qkv_bias: Whether q, k and v have biases.
        attention_scale: tau in the softmax of ``tau q k^T / sqrt(d)``.
        norm_cfg: The layers' norm.
        act: ``'gelu'`` (erf) or ``'gelu_tanh'``.
        with_cp: Recompute activations in the backward pass: less memory,
            about a third more time.
        window_size: Side of attention windows in tokens.
        window_block_indexes: Layers (from 0) that attend in windows; the
            others attend to the whole grid.
        layer_cfgs: Further arguments of every layer.
        num_registers: Tokens without position embeddings behind the cls token
            that attention sees (Darcet et al., 2024, "Vision transformers
            need registers"); a checkpoint's distillation token becomes one.
            Only ``out_type='raw'`` returns them.
        antialias: Whether position embeddings are smoothed when they are
            interpolated to a smaller grid, as timm does.
        kwargs: ``in_channels, final_norm, out_type, with_cls_token,
            interpolate_mode, patch_cfg, pre_norm, init_cfg`` of mmpretrain's
            ``VisionTransformer``; pretrained weights are loaded by
            :func:`halvit_mm.checkpoint.load_weights`.

    Raises:
        ValueError: For an unknown arch, act or window index, sizes that do
            not divide, or windows together with a cls token or registers.
    """

    arch_zoo = {
        **VisionTransformer.arch_zoo,
        # HaLViT (Koyun and Toereyin, 2024), Table 1
        **dict.fromkeys(['t', 'tiny'], _arch(384, 12, 6, 1536)),
        **dict.fromkeys(['m', 'medium'], _arch(768, 12, 12, 3072)),
        # ShallowMLP: ViT-B with FFNs of half the hidden width
        'shallowmlp-base': _arch(768, 12, 12, 1536),
    }
    layer_cls = EncoderLayer

    def __init__(
        self,
        arch: Union[str, Dict[str, int]] = 'medium',
        img_size: Union[int, Tuple[int, int]] = 224,
        patch_size: int = 16,
        out_indices: Union[int, Sequence[int]] = -1,
        frozen_stages: int = -1,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        qkv_bias: bool = True,
        attention_scale: float = 1.0,
        norm_cfg: Optional[dict] = None,
        act: str = 'gelu',
        with_cp: bool = False,
        window_size: int = 0,
        window_block_indexes: Sequence[int] = (),
        layer_cfgs: Optional[dict] = None,
        num_registers: int = 0,
        antialias: bool = False,
        **kwargs,
    ) -> None:
        settings = self._check_arch(arch)
        img_size = to_2tuple(img_size)
        check_multiple(img_size, patch_size)
        if 'layer_scale_init_value' in kwargs:
            raise ValueError('layer_scale_init_value has no effect here')
        if act not in GELU_FORMS:
            raise ValueError(f'act={act!r}: choose one of {list(GELU_FORMS)}')
        norm_cfg = norm_cfg or dict(type='LN', eps=1e-6)
        # mmcv's PatchEmbed would pad odd images silently; sizes are checked.
        kwargs['patch_cfg'] = {'padding': 0, **kwargs.get('patch_cfg', {})}
        # Without layers: mmpretrain's own would be built and thrown away.
        super().__init__(
            arch=dict(settings, num_layers=0),
            img_size=img_size,
            patch_size=patch_size,
            out_indices=0,
            drop_rate=drop_rate,
            norm_cfg=norm_cfg,
            **kwargs,
        )
        self.add_registers(num_registers)
        self.antialias = antialias
        self.arch_settings = settings
        self.mark_grid()
        self.patch_size = patch_size
        self.num_layers = n = settings['num_layers']
        self.out_indices = check_indices('out_indices', out_indices, n)
        self.with_cp = with_cp
        windowed = check_windows(
            window_size, window_block_indexes, n, self.num_extra_tokens
        )
        sizes = {k: settings[k] for k in _ARCH_KEYS if k != 'num_layers'}
        step = drop_path_rate / max(1, n - 1)
        self._build_layers(
            [
                dict(
                    **sizes,
                    norm_cfg=norm_cfg,
                    drop_rate=drop_rate,
                    attn_drop_rate=attn_drop_rate,
                    drop_path_rate=i * step,
                    qkv_bias=qkv_bias,
                    attention_scale=attention_scale,
                    act=act,
                    window_size=window_size if i in windowed else 0,
                )
                | (layer_cfgs or {})
                for i in range(n)
            ]
        )
        self.mark_variant()
        self.frozen_stages = frozen_stages
        if frozen_stages > n:
            raise ValueError(
                f'frozen_stages={frozen_stages}, but there are only {n} layers'
            )
        if frozen_stages > 0:
            self._freeze_stages()

    def _build_layers(self, layer_cfgs: Sequence[dict]) -> None:
        """Fill ``self.layers``.

        Args:
            layer_cfgs: Arguments of each layer.
        """
        self.layers = ModuleList(self.layer_cls(**cfg) for cfg in layer_cfgs)

    @classmethod
    def _check_arch(cls, arch) -> Dict[str, int]:
        if isinstance(arch, str):
            if arch.lower() not in cls.arch_zoo:
                raise ValueError(
                    f'unknown arch {arch!r}: choose one of '
                    f'{sorted(cls.arch_zoo)} or give a dict'
                )
            return cls.arch_zoo[arch.lower()]
        if missing := [key for key in _ARCH_KEYS if key not in arch]:
            raise ValueError(
                f'the arch {dict(arch)} lacks {missing}; it needs '
                f'{list(_ARCH_KEYS)}'
            )
        return arch

    def get_layer_depth(
        self, param_name: str, prefix: str = ''
    ) -> Tuple[int, int]:
        """Depth of a parameter, as in mmpretrain; registers have 0."""
        if param_name == f'{prefix}register_tokens':
            param_name = f'{prefix}cls_token'
        return super().get_layer_depth(param_name, prefix)

    def _freeze_stages(self) -> None:
        super()._freeze_stages()
        if self.register_tokens is not None:
            self.register_tokens.requires_grad = False

    def train(self, mode: bool = True) -> 'PlainViT':
        """Set the mode; frozen stages stay in eval mode."""
        super().train(mode)
        if self.frozen_stages > 0:
            self._freeze_stages()
        return self

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        """Extract features.

        Args:
            x: Images, (B, C, H, W), H and W multiples of the patch size.

        Returns:
            One tensor per out index: (B, T, D) for ``out_type='raw'``, (B, D,
            H / patch, W / patch) for ``'featmap'``, else (B, D).

        Raises:
            ValueError: If H or W is no multiple of the patch size.
        """
        check_multiple(x.shape[2:], self.patch_size)
        x, hw = self.patch_embed(x)
        x = self.pre_norm(self.drop_after_pos(self.embed_tokens(x, hw)))
        outs = []
        with checked_once():
            for i, layer in enumerate(self.layers):
                if self.with_cp and torch.is_grad_enabled():
                    x = checkpoint(layer, x, hw, use_reentrant=False)
                else:
                    x = layer(x, hw)
                if i == self.num_layers - 1 and self.final_norm:
                    x = self.ln1(x)
                if i in self.out_indices:
                    outs.append(self._format_output(x, hw))
        return tuple(outs)
