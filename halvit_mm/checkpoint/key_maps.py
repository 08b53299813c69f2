"""Names of a ViT's weights elsewhere, as tables.

Each table maps a foreign name to ours, those of an untied classifier
(``backbone.*`` is a :class:`~halvit_mm.models.PlainViT`, ``head.*``
mmpretrain's ``VisionTransformerClsHead``). ``{}`` stands for the index of a
layer. None is dropped on purpose.

A model that averages its tokens has its last norm behind the average: timm's
and MAE's ``fc_norm``, our ``ln2``, which a ``PlainViT`` has with
``out_type='avg_featmap'``; it takes ``final_norm=False``, for ``ln1`` before
the average is in none of these files.
"""

import re
from typing import Dict, Optional

from torch import Tensor

from .log import say

Table = Dict[str, Optional[str]]


def _pairs(foreign: str, ours: str) -> Table:
    return {f'{foreign}.{x}': f'{ours}.{x}' for x in ('weight', 'bias')}


_CLASSIFIER: Table = {
    'cls_token': 'backbone.cls_token',
    'pos_embed': 'backbone.pos_embed',
    **_pairs('patch_embed.proj', 'backbone.patch_embed.projection'),
    **_pairs('blocks.{}.norm1', 'backbone.layers.{}.ln1'),
    **_pairs('blocks.{}.attn.qkv', 'backbone.layers.{}.attn.qkv'),
    **_pairs('blocks.{}.attn.proj', 'backbone.layers.{}.attn.proj'),
    **_pairs('blocks.{}.norm2', 'backbone.layers.{}.ln2'),
    **_pairs('blocks.{}.mlp.fc1', 'backbone.layers.{}.ffn.layers.0.0'),
    **_pairs('blocks.{}.mlp.fc2', 'backbone.layers.{}.ffn.layers.1'),
    **_pairs('norm', 'backbone.ln1'),
    **_pairs('fc_norm', 'backbone.ln2'),
    **_pairs('head', 'head.layers.head'),
}

#: Where a checkpoint comes from -> its table.
KEY_MAPS: Dict[str, Table] = {
    # mmpretrain's ViT and DeiT, whose names are ours
    'mmpretrain': {
        name: name
        for name in (*_CLASSIFIER.values(), 'backbone.pos_embed_grid')
    },
    # timm's ViT and DeiT, and the DeiT repository
    'timm': _CLASSIFIER,
    # MAE, pretrained or fine-tuned: the decoder is for pretraining only
    'mae': {
        **_CLASSIFIER,
        'mask_token': None,
        'decoder_pos_embed': None,
        **dict.fromkeys(_pairs('decoder_embed', '')),
        **dict.fromkeys(_pairs('decoder_pred', '')),
        **{
            f'decoder_{name}': None
            for name in _CLASSIFIER
            if name.startswith(('blocks.', 'norm.'))
        },
    },
}

#: Buffers of ours that only say what a checkpoint is of.
_MARKS = ('pos_embed_grid', 'variant')

#: Names, in part, that no table has -> why.
_NOT_HERE = {
    ('dist_token', 'head_dist'): 'the untied skeleton has no distillation '
    'token and no head for it: take a DeiT trained without distillation',
    ('pre_logits',): 'the untied skeleton has no pre-logits layer in front of '
    'the head: take a file without, or delete these names and keep the '
    'backbone alone',
}


def to_ours(state_dict: Dict[str, Tensor], source: str) -> Dict[str, Tensor]:
    """Rename the weights of another project.

    Args:
        state_dict: Name -> weight.
        source: One of :data:`KEY_MAPS`.

    Returns:
        A new dict, without what is dropped on purpose.

    Raises:
        ValueError: For an unknown source, or names that are not in its table.
    """
    return _rename(state_dict, _table(source), source)


def from_ours(state_dict: Dict[str, Tensor], target: str) -> Dict[str, Tensor]:
    """Rename an untied classifier's weights: :func:`to_ours` backwards.

    Marks of ours, which no other project's models know, are dropped, which is
    logged.
    """
    table = _table(target)
    inverse = {ours: name for name, ours in table.items() if ours is not None}
    weights = dict(state_dict)
    for name in state_dict:
        mark = name.split('.')[-1]
        if mark in _MARKS:
            value = weights.pop(name)
            grid = mark == 'pos_embed_grid' and tuple(value.tolist())
            say(
                f'{name} is dropped, for {target} has no such mark'
                + (f': build the model for {grid} tokens' if grid else '')
            )
    return _rename(weights, inverse, target)


def _table(name: str) -> Table:
    if name not in KEY_MAPS:
        raise ValueError(f'{name!r}: choose one of {list(KEY_MAPS)}')
    return KEY_MAPS[name]


def _rename(state_dict, table: Table, name: str) -> Dict[str, Tensor]:
    renamed = {key: _other_name(key, table) for key in state_dict}
    unknown = [key for key, other in renamed.items() if other == '']
    if unknown:
        reasons = [
            f'; {reason}'
            for parts, reason in _NOT_HERE.items()
            if any(part in key for part in parts for key in unknown)
        ]
        raise ValueError(
            f'{len(unknown)} names are not in the table of {name}: '
            f'{unknown[:3]}{"".join(reasons)}'
        )
    return {
        other: state_dict[key]
        for key, other in renamed.items()
        if other is not None
    }


def _other_name(key: str, table: Table) -> Optional[str]:
    """Returns: A name's other name, None if dropped, '' if unknown."""
    index = re.search(r'\.(\d+)\.', key)
    number = index.group(1) if index else ''
    pattern = key.replace(f'.{number}.', '.{}.', 1) if index else key
    other = table.get(key, table.get(pattern, ''))
    return other and other.replace('{}', number)
