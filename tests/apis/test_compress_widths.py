"""Configs of backbones with narrower FFNs."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmpretrain.models import ResNet, SwinTransformer

from halvit_mm.apis.compress.widths import narrower_backbone, pruned_config
from halvit_mm.compression import PruneConfig, plan_pruning

SWIN = dict(
    type='mmpretrain.SwinTransformer',
    arch=dict(embed_dims=8, depths=[2, 2], num_heads=[1, 2]),
    img_size=32,
    patch_size=2,
    out_indices=(1,),
    stage_cfgs=dict(block_cfgs=dict(with_cp=False)),
)


def plan(module, budget=0.5):
    return plan_pruning(module, PruneConfig(budget=budget))


def test_swin():
    """Each stage has its own width; other settings stay."""
    module = MODELS.build(SWIN)
    pruning = plan(module)
    config = narrower_backbone(SWIN, module, pruning.widths)
    twin = MODELS.build(config)
    assert isinstance(twin, SwinTransformer)
    pruning.prepare()
    twin.load_state_dict(module.state_dict())  # every shape is the same
    assert twin.stages[1].blocks[0].ffn.layers[0][0].out_features == 32
    images = torch.randn(1, 3, 32, 32)
    twin(images)
    assert config['stage_cfgs'][1]['block_cfgs']['with_cp'] is False
    again = narrower_backbone(config, module, pruning.widths)
    assert again == config


def test_of_a_backbone_without_such_a_setting():
    with pytest.raises(ValueError, match='has no setting .*--how fips'):
        narrower_backbone(dict(type='ResNet'), ResNet(18), {})


def test_the_config_starts_from_the_file():
    module = MODELS.build(SWIN)
    cfg = Config(
        dict(
            model=dict(type='X', backbone=dict(SWIN, init_cfg=dict(type='Y'))),
            prune=dict(budget=0.5),
            work_dir='old',
        )
    )
    found = pruned_config(cfg, module, plan(module).widths, 'x.safetensors')
    assert found.model.backbone.init_cfg == dict(
        type='Pretrained', checkpoint='x.safetensors', prefix='backbone.'
    )
    assert found.load_from == 'x.safetensors'
    assert 'prune' not in found and 'work_dir' not in found
    assert cfg.model.backbone.init_cfg.type == 'Y'
