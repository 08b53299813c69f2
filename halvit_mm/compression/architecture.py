"""Units and groups that are found from a model's names.

A block is a child of a list, ``layers.3`` or ``stages.2.blocks.5``. Its FFN is
called ``ffn`` or ``mlp``, its attention ``attn``, as in this package, in
mmpretrain's ViT, DeiT and Swin, in timm and in detectors on any of them.
"""

import re
from dataclasses import replace
from typing import Dict, List, Tuple

from torch import nn

from .config import CalibrationConfig

_FFN = re.compile(r'(.*\.)(\d+)\.(ffn|mlp)')

#: Square matrices of attentions: what these write is the residual stream, the
#: others read it.
SQUARE = {r'.*\.(proj|out_proj)': 'out', r'.*\.attn\..*': 'in'}


def with_groups(
    model: nn.Module, config: CalibrationConfig
) -> CalibrationConfig:
    """Complete settings that name no groups.

    Args:
        model: The model.
        config: Settings; these with groups come back as they are.

    Raises:
        ValueError: As :func:`default_groups`.
    """
    if config.groups:
        return config
    found = default_groups(model, config.attention)
    if config.attention and getattr(config, 'square', ()) is None:
        config = replace(config, square=SQUARE)
    return replace(config, groups=found)


def default_groups(
    model: nn.Module, attention: bool = False
) -> Tuple[str, ...]:
    """Find the groups of a ViT or Swin.

    As in FiPS, Sec. 4: a stage of twelve and more blocks is three groups, a
    shorter one is a group.

    Args:
        model: A model, or its backbone.
        attention: Whether the attentions belong to the groups.

    Returns:
        For each group a regular expression, see
        :class:`.config.CalibrationConfig`.

    Raises:
        ValueError: If no block has an FFN.
    """
    stages: Dict[Tuple[str, str], List[int]] = {}
    for name, module in model.named_modules():
        match = _FFN.fullmatch(name)
        if match and any(isinstance(m, nn.Linear) for m in module.modules()):
            stage, index, leaf = match.groups()
            # mmcv's FFN adds its residual itself: the layers inside do not
            if getattr(module, 'add_identity', False):
                leaf = f'{leaf}\\.layers'
            stages.setdefault((stage, leaf), []).append(int(index))
    if not stages:
        linear = [
            n for n, m in model.named_modules() if isinstance(m, nn.Linear)
        ]
        raise ValueError(
            f'{type(model).__name__} has no blocks with an ffn or mlp, such '
            f'as layers.0.ffn: name its groups, groups=[...]; its linear '
            f'layers are {linear[:4]}, ...'
        )
    groups = []
    for (stage, leaf), blocks in stages.items():
        parts = 3 if len(blocks) >= 12 else 1
        size = -(-len(blocks) // parts)
        leaf = f'({leaf}|attn)' if attention else leaf
        for start in range(0, len(blocks), size):
            some = '|'.join(map(str, blocks[start : start + size]))
            groups.append(f'{re.escape(stage)}({some})\\.{leaf}')
    return tuple(groups)
