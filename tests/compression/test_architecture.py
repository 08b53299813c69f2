"""Groups that are found, in our ViTs and in the hosts'."""

import pytest
import torch
from mmpretrain.models import SwinTransformer, VisionTransformer
from torch import nn

from halvit_mm.compression import FiPSConfig, plan_compression
from halvit_mm.compression.architecture import default_groups
from halvit_mm.models import HaLViT, PlainViT, SharedHaLViT

ARCH = dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=32)


def units_of(model, attention=False):
    config = FiPSConfig(attention=attention, rank=4)
    with torch.device('meta'):
        groups = plan_compression(model, config).groups
    return [[unit.name for unit in group.units] for group in groups]


def test_plain_vits():
    assert units_of(PlainViT(ARCH, img_size=32)) == [
        ['layers.0.ffn', 'layers.1.ffn']
    ]
    host = VisionTransformer(arch=ARCH, img_size=32)
    assert units_of(host) == [['layers.0.ffn.layers', 'layers.1.ffn.layers']]


def test_twelve_blocks_are_three_groups():
    groups = units_of(PlainViT(dict(ARCH, num_layers=12), img_size=32))
    assert [len(group) for group in groups] == [4, 4, 4]
    assert groups[2][-1] == 'layers.11.ffn'


def test_with_attention():
    for model in (
        PlainViT(ARCH, img_size=32),
        HaLViT(ARCH, img_size=32),
        HaLViT(ARCH, img_size=32, attn='like'),
        VisionTransformer(arch=ARCH, img_size=32),
    ):
        (group,) = units_of(model, attention=True)
        assert {name.split('.')[2] for name in group} == {'attn', 'ffn'}
        assert len(group) == 4


def test_swin_groups_are_the_papers():
    """A stage of 2 blocks is a group, the one of 18 is three (Sec. 4)."""
    arch = dict(embed_dims=4, depths=[2, 2, 18, 2], num_heads=[1, 1, 1, 1])
    model = SwinTransformer(arch=arch, img_size=64)
    sizes = [len(group) for group in units_of(model)]
    assert sizes == [2, 2, 6, 6, 6, 2]
    assert [len(g) for g in units_of(model, True)] == [4, 4, 12, 12, 12, 4]


def test_inside_of_a_detector_and_unknown():
    model = nn.ModuleDict(dict(backbone=PlainViT(ARCH, img_size=32)))
    assert default_groups(model) == (r'backbone\.layers\.(0|1)\.ffn',)
    model = nn.ModuleDict(dict(conv=nn.Conv2d(3, 3, 1), fc=nn.Linear(3, 3)))
    with pytest.raises(
        ValueError, match=r"ModuleDict has no blocks.*\['fc'\]"
    ):
        default_groups(model)


def test_a_shared_ffn_is_refused():
    with pytest.raises(ValueError, match='has no blocks'):
        default_groups(SharedHaLViT(ARCH, img_size=32))
