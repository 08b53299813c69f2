"""Weights of other projects under our names, and back.

What :mod:`.key_maps` says of their names is applied here: q, k and v are
packed, LayerScale is multiplied into the map before it, and the position
embedding of a distillation token into the token. Nothing of it changes what a
model computes.
"""

import math
from typing import Dict, List, Tuple

import torch
from torch import Tensor

from .key_maps import (
    KEY_MAPS,
    MARKS,
    MODEL_NAMES,
    Entry,
    RowScale,
    Table,
    Third,
    Token,
)
from .log import say
from .origins import match_names, name_pattern, refuse_names

StateDict = Dict[str, Tensor]
_CLS, _POS = 'backbone.cls_token', 'backbone.pos_embed'


def to_ours(state_dict: StateDict, source: str) -> StateDict:
    """Rename the weights of another project.

    What is dropped of them is logged.

    Args:
        state_dict: Name -> weight.
        source: One of :data:`.KEY_MAPS`.

    Returns:
        A new dict.

    Raises:
        ValueError: For an unknown source, or names that are not in its table.
    """
    match = match_names(state_dict, _table(source))
    refuse_names(match.unknown, f'the table of {source}')
    found: StateDict = {}
    thirds: Dict[str, Dict[int, Tensor]] = {}
    scales: Dict[str, Tensor] = {}
    tokens: Dict[Token, Tensor] = {}
    dropped = list(match.beside)
    for name, entry in match.entries.items():
        tensor = state_dict[name]
        if entry is None:
            dropped.append(name)
        elif isinstance(entry, Third):
            thirds.setdefault(entry.name, {})[entry.index] = tensor
        elif isinstance(entry, RowScale):
            scales[entry.name] = tensor
        elif isinstance(entry, Token):
            tokens[entry] = tensor
        elif entry in found:
            raise ValueError(f'{name!r} and another name are both {entry}')
        else:
            found[entry] = tensor
    for name, parts in thirds.items():
        if len(parts) < 3:
            raise ValueError(f'{name}: one of q, k and v is missing')
        found[name] = torch.cat([parts[i] for i in range(3)])
    for name, scale in scales.items():
        for key in {f'{name}.weight', f'{name}.bias'} & found.keys():
            found[key] = _scaled(found[key], scale, key)
    for token, tensor in tokens.items():
        _take_in(token, tensor, found)
    if source.startswith('timm'):
        _add_position(found)
    if dropped:
        say(f'without a counterpart here ({len(dropped)}): {dropped[:9]}')
    return found


def from_ours(state_dict: StateDict, target: str) -> StateDict:
    """Rename an untied classifier's weights: :func:`to_ours` backwards.

    Marks of ours, which no other project's models know, are dropped, which is
    logged. LayerScale is 1, for it is in the matrices.

    Args:
        state_dict: Name -> weight.
        target: One of :data:`.KEY_MAPS`.

    Returns:
        A new dict.

    Raises:
        ValueError: For an unknown target, or names that are not in its table.
    """
    table = _table(target)
    weights = _without_marks(state_dict, target)
    inverse: Dict[str, List[Tuple[str, Entry]]] = {}
    for foreign, entry in table.items():
        if entry is not None:
            name = entry if isinstance(entry, str) else entry.name
            inverse.setdefault(name, []).append((foreign, entry))
    found, unknown = {}, []
    for name, tensor in _give_out(weights, table).items():
        pattern, index = name_pattern(name)
        others = inverse.get(pattern, [])
        for foreign, entry in others:
            third = isinstance(entry, Third)
            part = tensor.chunk(3)[entry.index] if third else tensor
            found[foreign.replace('{}', index)] = part
            if not third:
                break  # of several names the first is the usual one
        if not others:
            unknown.append(name)
        layer, _, leaf = pattern.rpartition('.')
        for foreign, _ in inverse.get(layer, []) if leaf == 'bias' else []:
            found[foreign.replace('{}', index)] = torch.ones_like(tensor)
    refuse_names(unknown, f'the table of {target}')
    if target in MODEL_NAMES and 'head.layers.head.weight' in weights:
        found = {
            k if k.startswith('classifier') else MODEL_NAMES[target] + k: v
            for k, v in found.items()
        }
    return found


def _table(name: str) -> Table:
    if name not in KEY_MAPS:
        raise ValueError(f'{name!r}: choose one of {list(KEY_MAPS)}')
    return KEY_MAPS[name]


def _without_marks(state_dict, target: str) -> StateDict:
    weights = dict(state_dict)
    for name, value in state_dict.items():
        mark = name.split('.')[-1]
        if mark in MARKS:
            del weights[name]
            grid = mark == 'pos_embed_grid' and tuple(value.tolist())
            say(
                f'{name} is dropped, for {target} has no such mark'
                + (f': build the model for {grid} tokens' if grid else '')
            )
    return weights


def _scaled(tensor: Tensor, scale: Tensor, name: str) -> Tensor:
    """Multiply rows; what is quantised stays so, for the loader to refuse."""
    if not tensor.is_floating_point() or tensor.element_size() < 2:
        return tensor
    if scale.shape != tensor.shape[:1]:
        raise ValueError(
            f'{name}: LayerScale has the shape {tuple(scale.shape)}, but '
            f'there are {len(tensor)} rows'
        )
    shape = (-1, *[1] * (tensor.ndim - 1))
    return tensor.float() * scale.float().view(shape)


def _take_in(token: Token, tensor: Tensor, found: StateDict) -> None:
    """Give a token the position embedding that it has elsewhere, in place."""
    pos = found.get(_POS)
    if pos is not None and token.with_position:
        tensor = tensor + pos[:, 1:2]
        found[_POS] = torch.cat((pos[:, :1], pos[:, 2:]), dim=1)
    found[token.name] = tensor


def _add_position(found: StateDict) -> None:
    """Give a cls token without position embedding one of 0, in place.

    As timm's DINOv2 with registers and DeiT III have it: there are as many
    embeddings as tokens of a square.
    """
    pos = found.get(_POS)
    if pos is None or _CLS not in found:
        return
    if math.isqrt(pos.shape[1]) ** 2 == pos.shape[1]:
        say(f'{pos.shape[1]} position embeddings: none is of the cls token')
        found[_POS] = torch.cat((torch.zeros_like(pos[:, :1]), pos), dim=1)


def _give_out(weights: StateDict, table: Table) -> StateDict:
    """:func:`_take_in` backwards, where the weights have such a token."""
    tokens = [e for e in table.values() if isinstance(e, Token)]
    registers = tokens and weights.get(tokens[0].name)
    if registers is None or not tokens:
        return weights
    pos = weights[_POS]
    if not tokens[0].with_position:
        cls_token = weights[_CLS] + pos[:, :1]
        return {**weights, _CLS: cls_token, _POS: pos[:, 1:]}
    if registers.shape[1] != 1:
        raise ValueError(
            f'{registers.shape[1]} register tokens: only one can be the '
            'distillation token of that model'
        )
    pos = torch.cat((pos[:, :1], torch.zeros_like(registers), pos[:, 1:]), 1)
    return {**weights, _POS: pos}
