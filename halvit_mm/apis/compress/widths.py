"""Configs of backbones whose FFNs have become narrower."""

import copy
from typing import Any, Dict, List

from mmengine.config import Config
from torch import nn

from ...compression.pruning import Width


def narrower_backbone(
    backbone: Dict[str, Any], module: nn.Module, widths: Dict[str, Width]
) -> Dict[str, Any]:
    """Write the config of a backbone with narrower FFNs.

    Args:
        backbone: Config of the backbone as it was.
        module: That backbone.
        widths: Hidden units of each FFN, by its name in the backbone.

    Returns:
        The config.

    Raises:
        ValueError: If the backbone has no setting for the width: it is
            neither a ViT, of an ``arch``, nor a Swin.
    """
    backbone = dict(copy.deepcopy(backbone), init_cfg=None)
    arch = getattr(module, 'arch_settings', None) or {}
    after = {width.after for width in widths.values()}
    if 'feedforward_channels' in arch and len(after) == 1:
        (width,) = after
        backbone['arch'] = dict(arch, feedforward_channels=width)
        return backbone
    if 'depths' in arch:
        backbone['stage_cfgs'] = _stages(backbone, len(arch['depths']), widths)
        return backbone
    raise ValueError(
        f'{type(module).__name__} has no setting for the width of its FFNs '
        '(arch.feedforward_channels of a ViT, stage_cfgs of a Swin): prune '
        'cannot write its config; FiPS can, --how fips'
    )


def _stages(
    backbone: Dict[str, Any], stages: int, widths: Dict[str, Width]
) -> List[Dict[str, Any]]:
    """The settings of a Swin's stages."""
    given = backbone.get('stage_cfgs', {})
    found = []
    for i in range(stages):
        stage = dict(given[i] if isinstance(given, list) else given)
        (width,) = {
            width.after
            for name, width in widths.items()
            if name.startswith(f'stages.{i}.')
        }
        block = dict(stage.get('block_cfgs', {}))
        ffn = dict(block.get('ffn_cfgs', {}), feedforward_channels=width)
        found.append(dict(stage, block_cfgs=dict(block, ffn_cfgs=ffn)))
    return found


def pruned_config(
    cfg: Config, module: nn.Module, widths: Dict[str, Width], file: str
) -> Config:
    """Write a config that builds the pruned model and starts from its file.

    Args:
        cfg: Config of the original.
        module: Its backbone.
        widths: Hidden units of each FFN, by its name in the backbone.
        file: The pruned weights.
    """
    cfg = copy.deepcopy(cfg)
    for key in ('prune', 'fips', 'work_dir'):
        cfg.pop(key, None)
    backbone = narrower_backbone(cfg.model.backbone.to_dict(), module, widths)
    backbone['init_cfg'] = dict(
        type='Pretrained', checkpoint=file, prefix='backbone.'
    )
    cfg.model.backbone = backbone
    cfg.load_from = file
    return cfg
