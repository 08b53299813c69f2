"""Which project weights are from, and what is folded into others.

``library_names.json`` has the names and shapes of timm's and transformers'
models, which test_libraries.py compares with the libraries.
"""

import json
from pathlib import Path

import pytest
import torch

from halvit_mm.checkpoint import find_origin, from_ours, to_ours
from halvit_mm.models import PlainViT

RECORDED = json.loads(
    Path(__file__).with_name('library_names.json').read_text()
)
VIT = RECORDED['kinds']['timm ViT'][2]


@pytest.mark.parametrize('kind', RECORDED['kinds'])
def test_names_of_the_libraries(kind):
    """Recorded names and shapes fit a model of ours, and go back."""
    origin, options, shapes = RECORDED['kinds'][kind]
    state = {k: torch.randn(shape) for k, shape in shapes.items()}
    assert find_origin(state) == origin
    vit = PlainViT(RECORDED['arch'], 56, 14, **options)
    found = to_ours(state, origin)
    expected = {f'backbone.{k}': v.shape for k, v in vit.state_dict().items()}
    assert {k: v.shape for k, v in found.items()} == expected
    back = from_ours(found, origin)
    missing = {k: v for k, v in shapes.items() if k not in back}
    assert all('mask_token' in k or 'pooler' in k for k in missing)
    assert {k: list(v.shape) for k, v in back.items()} | missing == shapes


def test_layer_scale_is_multiplied_into_the_map_before_it():
    state = {
        'blocks.1.attn.proj.weight': torch.ones(2, 3),
        'blocks.1.attn.proj.bias': torch.ones(2),
        'blocks.1.ls1.gamma': torch.tensor([2.0, 3.0]),
    }
    found = to_ours(state, 'timm-dinov2')
    name = 'backbone.layers.1.attn.proj'
    assert found.keys() == {f'{name}.weight', f'{name}.bias'}
    assert found[f'{name}.weight'].tolist() == [[2.0] * 3, [3.0] * 3]
    assert found[f'{name}.bias'].tolist() == [2.0, 3.0]
    back = from_ours(found, 'timm-dinov2')
    assert back['blocks.1.ls1.gamma'].tolist() == [1.0, 1.0]


def test_a_distillation_token_takes_its_position_with_it():
    pos = torch.arange(6.0).view(1, 6, 1)  # cls, dist, 2 x 2
    state = dict(pos_embed=pos, dist_token=torch.full((1, 1, 1), 10.0))
    found = to_ours(state, 'timm')
    assert found['backbone.register_tokens'].item() == 11
    assert found['backbone.pos_embed'].flatten().tolist() == [0, 2, 3, 4, 5]
    back = from_ours(found, 'timm')
    assert back['dist_token'].item() == 11
    assert back['pos_embed'].flatten().tolist() == [0, 0, 2, 3, 4, 5]


def test_chunks_of_layers():
    """DINOv2 trains chunks of layers, which count the layers through."""
    found = to_ours({'blocks.2.11.ls2.gamma': torch.ones(1)}, 'dinov2')
    assert found == {}
    name = 'blocks.2.11.norm1.bias'
    assert list(to_ours({name: 0}, 'dinov2')) == [
        'backbone.layers.11.ln1.bias'
    ]


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        (['blocks.0.mlp.w12.weight'], 'FFNs with gates'),
        (['blocks.0.attn.relative_position_bias_table'], 'relative positions'),
        (['rope.periods'], 'rotary positions'),
        (['blocks.0.attn.q_norm.weight'], 'norms of queries and keys'),
        (['norm_pre.weight'], 'CLIP'),
        (
            ['blocks.0.what'],
            r'1 names are not in the table of timm, the closest',
        ),
    ],
)
def test_other_architectures_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        find_origin([*VIT, *names])


def test_no_origin():
    assert find_origin(['conv1.weight', 'layer1.0.conv1.weight']) is None
