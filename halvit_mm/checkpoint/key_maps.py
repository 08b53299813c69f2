"""Names of a ViT's weights elsewhere, as tables.

Each table maps a foreign name to ours, those of an untied classifier
(``backbone.*`` is a :class:`~halvit_mm.models.PlainViT`, ``head.*``
mmpretrain's ``VisionTransformerClsHead``). ``{}`` stands for the index of a
layer. None is dropped on purpose. :mod:`.conversion` applies the tables.

A model that averages its tokens has its last norm behind the average: timm's
and MAE's ``fc_norm``, our ``ln2``, which a ``PlainViT`` has with
``out_type='avg_featmap'``; it takes ``final_norm=False``, for ``ln1`` before
the average is in none of these files.
"""

from typing import Dict, NamedTuple, Tuple, Union


class Third(NamedTuple):
    """A third of the rows of ours: q, k or v of what is packed here."""

    name: str
    index: int


class RowScale(NamedTuple):
    """Factors of the rows of a matrix of ours and of its bias, without leaf.

    LayerScale (Touvron et al., 2021, "Going deeper with image transformers"),
    which stands behind a linear map and is multiplied into it.
    """

    name: str


class Token(NamedTuple):
    """A token of ours beside the cls token, which has no position embedding.

    Elsewhere it has one behind that of the cls token (``with_position``), or
    neither of both has.
    """

    name: str
    with_position: bool


Entry = Union[str, Third, RowScale, Token, None]
Table = Dict[str, Entry]

_LAYER = 'backbone.layers.{}'
_REGISTERS = 'backbone.register_tokens'


def _pairs(*names: Tuple[str, str]) -> Table:
    """The weight and the bias of each of these."""
    return {
        f'{foreign}.{leaf}': ours and f'{ours}.{leaf}'
        for foreign, ours in names
        for leaf in ('weight', 'bias')
    }


_TIMM: Table = {
    'cls_token': 'backbone.cls_token',
    'pos_embed': 'backbone.pos_embed',
    **_pairs(
        ('patch_embed.proj', 'backbone.patch_embed.projection'),
        ('blocks.{}.norm1', f'{_LAYER}.ln1'),
        ('blocks.{}.attn.qkv', f'{_LAYER}.attn.qkv'),
        ('blocks.{}.attn.proj', f'{_LAYER}.attn.proj'),
        ('blocks.{}.norm2', f'{_LAYER}.ln2'),
        ('blocks.{}.mlp.fc1', f'{_LAYER}.ffn.layers.0.0'),
        ('blocks.{}.mlp.fc2', f'{_LAYER}.ffn.layers.1'),
        ('norm', 'backbone.ln1'),
        ('fc_norm', 'backbone.ln2'),
        ('head', 'head.layers.head'),
    ),
}
_TIMM_SCALES: Table = {
    'blocks.{}.ls1.gamma': RowScale(f'{_LAYER}.attn.proj'),
    'blocks.{}.ls2.gamma': RowScale(f'{_LAYER}.ffn.layers.1'),
}
_OURS = [name for name in _TIMM.values() if isinstance(name, str)]

_TRANSFORMERS: Table = {
    'embeddings.cls_token': 'backbone.cls_token',
    'embeddings.position_embeddings': 'backbone.pos_embed',
    'embeddings.mask_token': None,
    **_pairs(
        (
            'embeddings.patch_embeddings.projection',
            'backbone.patch_embed.projection',
        ),
        ('encoder.layer.{}.attention.output.dense', f'{_LAYER}.attn.proj'),
        ('layernorm', 'backbone.ln1'),
        ('pooler.dense', None),
    ),
    **{
        f'encoder.layer.{{}}.attention.attention.{part}.{leaf}': Third(
            f'{_LAYER}.attn.qkv.{leaf}', index
        )
        for index, part in enumerate(('query', 'key', 'value'))
        for leaf in ('weight', 'bias')
    },
}
_TRANSFORMERS_VIT: Table = {
    **_TRANSFORMERS,
    **_pairs(
        ('encoder.layer.{}.layernorm_before', f'{_LAYER}.ln1'),
        ('encoder.layer.{}.layernorm_after', f'{_LAYER}.ln2'),
        ('encoder.layer.{}.intermediate.dense', f'{_LAYER}.ffn.layers.0.0'),
        ('encoder.layer.{}.output.dense', f'{_LAYER}.ffn.layers.1'),
        ('classifier', 'head.layers.head'),
    ),
}

#: Where a checkpoint comes from -> its table.
KEY_MAPS: Dict[str, Table] = {
    # mmpretrain's ViT and DeiT, whose names are ours
    'mmpretrain': {
        **{name: name for name in _OURS},
        'backbone.pos_embed_grid': 'backbone.pos_embed_grid',
        'backbone.dist_token': Token(_REGISTERS, with_position=True),
        **_pairs(('head.layers.head_dist', None)),
    },
    # mmpretrain's DINOv2 and DeiT III
    'mmpretrain-dinov2': {
        **{name: name for name in _OURS},
        f'{_LAYER}.attn.gamma1.weight': RowScale(f'{_LAYER}.attn.proj'),
        f'{_LAYER}.ffn.gamma2.weight': RowScale(f'{_LAYER}.ffn.layers.1'),
    },
    # timm's ViT and DeiT, and the DeiT and DINO repositories
    'timm': {
        **_TIMM,
        'dist_token': Token(_REGISTERS, with_position=True),
        **_pairs(('head_dist', None)),
    },
    'timm-dinov2': {
        **_TIMM,
        **_TIMM_SCALES,
        'reg_token': Token(_REGISTERS, with_position=False),
    },
    # the DINOv2 repository's own
    'dinov2': {
        **_TIMM,
        **_TIMM_SCALES,
        'register_tokens': _REGISTERS,
        'mask_token': None,
    },
    # MAE, pretrained or fine-tuned: the decoder is for pretraining only
    'mae': {
        **_TIMM,
        'mask_token': None,
        'decoder_pos_embed': None,
        **_pairs(('decoder_embed', None), ('decoder_pred', None)),
        **{
            f'decoder_{name}': None
            for name in _TIMM
            if name.startswith(('blocks.', 'norm.'))
        },
    },
    # transformers: ViTModel, ViTMAEModel and what has a head on top of them
    'transformers-vit': _TRANSFORMERS_VIT,
    'transformers-deit': {
        **_TRANSFORMERS_VIT,
        'embeddings.distillation_token': Token(_REGISTERS, with_position=True),
        **_pairs(
            ('cls_classifier', 'head.layers.head'),
            ('distillation_classifier', None),
        ),
    },
    # its classifier reads the cls token and the average, as none of ours
    'transformers-dinov2': {
        **_TRANSFORMERS,
        'embeddings.register_tokens': _REGISTERS,
        **_pairs(
            ('encoder.layer.{}.norm1', f'{_LAYER}.ln1'),
            ('encoder.layer.{}.norm2', f'{_LAYER}.ln2'),
            ('encoder.layer.{}.mlp.fc1', f'{_LAYER}.ffn.layers.0.0'),
            ('encoder.layer.{}.mlp.fc2', f'{_LAYER}.ffn.layers.1'),
            ('classifier', None),
        ),
        'encoder.layer.{}.layer_scale1.lambda1': RowScale(
            f'{_LAYER}.attn.proj'
        ),
        'encoder.layer.{}.layer_scale2.lambda1': RowScale(
            f'{_LAYER}.ffn.layers.1'
        ),
    },
}

#: What names of a classifier of transformers begin with, but for its head.
MODEL_NAMES = {'transformers-vit': 'vit.', 'transformers-deit': 'deit.'}

#: Buffers of ours that only say what a checkpoint is of.
MARKS = ('pos_embed_grid', 'variant')

#: Parts of names that no table has -> why.
NOT_HERE: Dict[Tuple[str, ...], str] = {
    ('pre_logits',): 'the untied skeleton has no pre-logits layer in front of '
    'the head: take a file without, or delete these names and keep the '
    'backbone alone',
    (
        'relative_position',
        'rel_pos',
    ): 'relative positions (BEiT, SAM, ViTDet) are not in this skeleton: '
    'take a ViT with learnt position embeddings',
    (
        'mlp.w12',
        'mlp.w3',
        'weights_in',
        'fc1_g',
        'gate_proj',
    ): 'FFNs with gates (SwiGLU, as in DINOv2-giant and EVA-02) are not in '
    'this skeleton: take a smaller model of the family',
    ('rope', 'up_proj', 'o_proj'): 'rotary positions (DINOv3, EVA-02) are not '
    'in this skeleton: take DINOv2',
    ('q_bias', 'gamma_1', 'lambda_1'): 'layers as those of BEiT, Data2Vec or '
    'EVA are not in this skeleton: take a ViT, DeiT, MAE or DINOv2',
    (
        'q_norm',
        'k_norm',
    ): 'norms of queries and keys are not in this skeleton',
    (
        'norm_pre',
        'pre_layrnorm',
        'ln_pre',
    ): 'a norm before the layers (CLIP) is not in this table: CLIP computes '
    'another GELU, which no name tells',
}
