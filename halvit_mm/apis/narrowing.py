"""The rival of every tying: an untied ViT of fewer channels."""

import copy
from typing import Dict

import torch
from mmengine.config import Config

from .model_info import build_model, count_parameters


def narrow_config(
    cfg: Config, parameters: int, multiple_of: int = 4
) -> Config:
    """Find the widest model of a config's kind that stores no more than that.

    Layers stay as many, and FFNs as wide in proportion. There are as many
    heads as before, or the next number of them that divides the width.

    Args:
        cfg: Config of a classifier or a detector on a ViT of this package.
        parameters: Parameters that the whole model may store.
        multiple_of: What the width is a multiple of.

    Returns:
        A copy of ``cfg`` with that ``arch``, and the ``in_channels`` of neck
        or head that go with it.

    Raises:
        ValueError: If the backbone is no ViT, or no width is small enough.
    """
    backbone = build_model(cfg).backbone
    arch = getattr(backbone, 'arch_settings', None)
    if not isinstance(arch, dict) or 'feedforward_channels' not in arch:
        raise ValueError(f'{type(backbone).__name__} is no ViT to be narrowed')
    for width in range(arch['embed_dims'], 0, -1):
        if width % multiple_of:
            continue
        narrow = _narrow(cfg, arch, width)
        with torch.device('meta'):
            stored, _ = count_parameters(build_model(narrow))
        if stored <= parameters:
            return narrow
    raise ValueError(
        f'no width that is a multiple of {multiple_of} has only '
        f'{parameters:,} parameters'
    )


def _narrow(cfg: Config, arch: Dict[str, int], width: int) -> Config:
    before = arch['embed_dims']
    heads = range(arch['num_heads'], width + 1)
    cfg = copy.deepcopy(cfg)
    cfg.model.backbone.arch = dict(
        embed_dims=width,
        num_layers=arch['num_layers'],
        num_heads=next((n for n in heads if width % n == 0), width),
        feedforward_channels=arch['feedforward_channels'] * width // before,
    )
    for name in ('neck', 'head'):
        part = cfg.model.get(name) or {}
        if part.get('in_channels') == before:
            part.in_channels = width
    return cfg
