"""Which project weights are from, and what is folded into others.

``library_names.json`` has the names and shapes of timm's and transformers'
models, which test_libraries.py compares with the libraries.
"""

import json
from pathlib import Path

import pytest
import torch
from mmpretrain.models.backbones import (
    DistilledVisionTransformer,
    VisionTransformer,
)
from torch.testing import assert_close

from halvit_mm.checkpoint import (
    find_origin,
    from_ours,
    load_weights,
    to_ours,
)
from halvit_mm.models import PlainViT
from tests.helpers import ARCH, build, randomise

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


HOST = dict(arch=ARCH, img_size=32, patch_size=8)
IMAGE = torch.randn(1, 3, 32, 32)


def test_layer_scale_of_mmpretrain(tmp_path):
    host = randomise(VisionTransformer(layer_scale_init_value=0.1, **HOST))
    path = str(tmp_path / 'host.pth')
    torch.save(host.state_dict(), path)
    ours = build(PlainViT).eval()
    assert load_weights(ours, path) == 1.0
    host.eval()  # which returns nothing
    assert_close(ours(IMAGE), host(IMAGE), rtol=1e-4, atol=1e-5)


def test_a_distilled_vit_of_mmpretrain(tmp_path):
    """Here its token is a register; its own model takes its file as it is."""
    host = randomise(DistilledVisionTransformer(**HOST))
    host.eval()
    path = str(tmp_path / 'host.pth')
    torch.save(host.state_dict(), path)
    ours = build(PlainViT, num_registers=1).eval()
    assert load_weights(ours, path) == 1.0
    assert_close(ours(IMAGE)[0], host(IMAGE)[0][0], rtol=1e-4, atol=1e-5)
    assert load_weights(DistilledVisionTransformer(**HOST), path) == 1.0


def of_timm():
    names = build(PlainViT).state_dict()
    state = {f'backbone.{k}': v.clone() for k, v in names.items()}
    return from_ours(state, 'timm')


def test_what_is_not_needed_is_ignored_before_it_is_translated(tmp_path):
    path = str(tmp_path / 'timm.pth')
    torch.save({**of_timm(), 'masked_embed': torch.ones(3)}, path)
    with pytest.raises(ValueError, match="ignore=\\['masked_embed', ...\\]"):
        load_weights(build(PlainViT), path)
    assert load_weights(build(PlainViT), path, ignore=['masked_embed']) == 1.0


def test_a_quantised_matrix_with_layer_scale_is_refused(tmp_path):
    state, name = of_timm(), 'blocks.0.attn.proj.weight'
    state[name] = state[name].to(torch.int8)
    state['blocks.0.ls1.gamma'] = torch.ones(32)
    torch.save(state, tmp_path / 'timm.pth')
    with pytest.raises(ValueError, match='quantised weights .*attn.proj'):
        load_weights(build(PlainViT), str(tmp_path / 'timm.pth'))


def test_a_norm_behind_the_average_is_named(tmp_path):
    state = {
        k.replace('norm.', 'fc_norm.') if k.startswith('norm.') else k: v
        for k, v in of_timm().items()
    }
    path = str(tmp_path / 'mae.pth')
    torch.save(state, path)
    with pytest.raises(ValueError, match='final_norm=False builds'):
        load_weights(build(PlainViT), path)
    assert load_weights(build(PlainViT, final_norm=False), path) == 1.0


def test_why_a_file_of_no_known_project_does_not_fit(tmp_path):
    path = str(tmp_path / 'dinov3.pth')
    names = ('layer.0.attention.o_proj.weight', 'rope.inv_freq')
    torch.save({k: torch.ones(3) for k in names}, path)
    with pytest.raises(ValueError, match='rotary positions') as info:
        load_weights(build(PlainViT), path)
    assert 'ignore=' not in str(info.value)


def test_embeddings_of_a_square_number_that_have_the_cls_token_s():
    """3 x 5 tokens and the cls token: only timm leaves the latter out."""
    state = {
        'embeddings.cls_token': torch.ones(1, 1, 8),
        'embeddings.position_embeddings': torch.ones(1, 16, 8),
    }
    found = to_ours(state, 'transformers-vit')
    assert found['backbone.pos_embed'].shape == (1, 16, 8)
