"""Learning rates by depth, of detectors and classifiers."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from halvit_mm.models import HaLViT, PlainViT
from tests.helpers import build

OPTIMIZER = dict(type='AdamW', lr=1e-2, weight_decay=0.1)


class Model(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(3, 3)


def rates(model, **paramwise_cfg):
    cfg = dict(
        type='OptimWrapper',
        constructor='halvit_mm.LayerDecayOptimWrapperConstructor',
        optimizer=OPTIMIZER,
        paramwise_cfg=paramwise_cfg,
    )
    optimizer = build_optim_wrapper(model, cfg).optimizer
    names = {id(param): name for name, param in model.named_parameters()}
    return {names[id(g['params'][0])]: g for g in optimizer.param_groups}


@pytest.mark.parametrize('cls', [PlainViT, HaLViT])
def test_rates_of_a_detector(cls):
    """Three layers: embeddings at 0.5 ** 4, the last layer at 0.5."""
    model = Model(build(cls, num_registers=1))
    groups = rates(model, layer_decay_rate=0.5)
    assert groups.keys() == {name for name, _ in model.named_parameters()}
    for name, power in {
        'backbone.pos_embed': 4,
        'backbone.register_tokens': 4,
        'backbone.patch_embed.projection.weight': 4,
        'backbone.layers.0.ln1.weight': 3,
        'backbone.layers.2.ln2.bias': 1,
        'backbone.ln1.weight': 0,
        'head.bias': 0,
    }.items():
        assert groups[name]['lr'] == pytest.approx(1e-2 * 0.5**power), name
        assert groups[name]['weight_decay'] == 0.1


def test_a_factor_of_the_whole_backbone():
    groups = rates(
        Model(build(PlainViT)), layer_decay_rate=1, backbone_lr_mult=0.1
    )
    for name, group in groups.items():
        factor = 0.1 if name.startswith('backbone.') else 1
        assert group['lr'] == pytest.approx(1e-2 * factor), name
        assert group['weight_decay'] == 0.1


def test_what_is_frozen_is_left_out_and_other_rules_hold():
    model = Model(build(PlainViT, frozen_stages=2))
    keys = {'backbone.layers.2': dict(lr_mult=0.1)}
    groups = rates(
        model, layer_decay_rate=0.5, norm_decay_mult=0.0, custom_keys=keys
    )
    assert not any('backbone.layers.0' in name for name in groups)
    last = groups['backbone.layers.2.attn.proj.weight']
    assert last['lr'] == pytest.approx(1e-2 * 0.1 * 0.5)
    assert groups['backbone.ln1.weight']['weight_decay'] == 0


@pytest.mark.parametrize('rate', [None, 0, 1.5, '0.7'])
def test_a_rate_that_is_none(rate):
    with pytest.raises(ValueError, match='above 0 and up to 1, such as 0.7'):
        rates(Model(build(PlainViT)), layer_decay_rate=rate)


def test_a_backbone_that_tells_no_depths():
    with pytest.raises(ValueError, match='Linear of Model does not tell the'):
        rates(Model(nn.Linear(2, 2)), layer_decay_rate=0.7)


def test_a_step_moves_early_layers_less():
    model = Model(build(PlainViT, out_type='featmap', with_cls_token=False))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    cfg = dict(
        type='OptimWrapper',
        constructor='halvit_mm.LayerDecayOptimWrapperConstructor',
        optimizer=dict(type='SGD', lr=1.0),
        paramwise_cfg=dict(layer_decay_rate=0.1),
    )
    wrapper = build_optim_wrapper(model, cfg)
    for param in model.parameters():
        param.grad = torch.ones_like(param)
    wrapper.optimizer.step()
    moved = {
        k: (before[k] - v).abs().max().item()
        for k, v in model.state_dict().items()
    }
    assert moved['head.weight'] == pytest.approx(1, abs=1e-4)
    name = 'backbone.layers.{}.attn.qkv.bias'
    assert moved[name.format(2)] == pytest.approx(0.1, abs=1e-4)
    assert moved[name.format(0)] == pytest.approx(0.001, abs=1e-4)
