"""HaLViT and its untied twin: their size, and one owner for every weight."""

import copy

import pytest
import torch
from torch.testing import assert_close

from halvit_mm.models import HaLViT, PlainViT
from halvit_mm.models.layers import TiedLinear
from halvit_mm.registry import MODELS
from tests.helpers import (
    ARCH,
    DETECTION,
    assert_one_owner,
    build,
    gradients,
    loss_of,
    num_params,
    randomise,
)

CLASSES = [HaLViT, PlainViT]


# Around the layers: patch embedding 3 * 16 * 16 * D + D, position embeddings
# 197 D (14 * 14 patches and the cls token), cls token D, final norm 2 D.
# A layer: 6 D^2 tied (D^2 each for Wq and Wkv, 4 D^2 for the FFN), 12 D^2
# untied; and 13 D in vectors: q, k, v, out 4 D, FFN 4 D + D, two norms 4 D.
@pytest.mark.parametrize(
    ('cls', 'arch', 'expected'),
    [
        # 12 * (6 * 384^2 + 13 * 384) + 768 * 384 + 384 + (197 + 1 + 2) * 384
        (HaLViT, 'tiny', 11_048_832),
        # 12 * (6 * 768^2 + 13 * 768) + 768 * 768 + 768 + (197 + 1 + 2) * 768
        (HaLViT, 'medium', 43_331_328),
        # the same with 12 D^2 a layer
        (PlainViT, 'tiny', 21_665_664),
        (PlainViT, 'medium', 85_798_656),
    ],
)
def test_number_of_parameters(cls, arch, expected):
    assert num_params(cls(arch=arch)) == expected


@pytest.mark.parametrize('cls', CLASSES)
def test_number_of_parameters_without_cls_token(cls):
    D = ARCH['embed_dims']
    # avg_featmap has a norm of its own (2 D)
    with_token = num_params(build(cls, out_type='avg_featmap'))
    without = num_params(
        build(cls, out_type='avg_featmap', with_cls_token=False)
    )
    assert with_token - without == 2 * D  # the token and its position
    assert without - num_params(build(cls, **DETECTION)) == 2 * D


def test_every_layer_has_three_tied_matrices():
    model = build(HaLViT)
    D, F = ARCH['embed_dims'], ARCH['feedforward_channels']
    for layer in model.layers:
        shapes = [
            tuple(module.weight.shape)
            for module in layer.modules()
            if isinstance(module, TiedLinear)
        ]
        assert shapes == [(D, D), (D, D), (F, D)]
        matrices = [p for p in layer.parameters() if p.ndim == 2]
        assert len(matrices) == 3


@pytest.mark.parametrize('name', ['ffn_cls', 'attn_cls'])
def test_layer_cfgs_choose_no_other_tying(name):
    with pytest.raises(ValueError, match=rf"sets \['{name}'\], which gain"):
        build(HaLViT, layer_cfgs={name: TiedLinear, 'ffn_init_scale': 2})
    model = build(HaLViT, layer_cfgs={'ffn_init_scale': 2})
    assert model.layers[0].ffn_init_scale == 2


@pytest.mark.parametrize('cls', CLASSES)
def test_configs_reach_it_by_its_scope(cls):
    model = MODELS.build(dict(type=f'halvit_mm.{cls.__name__}', arch=ARCH))
    assert type(model) is cls


def reload(model):
    model.load_state_dict(randomise(build(type(model))).state_dict())
    return model


def init_weights(model):
    model.init_weights()
    return model


CHANGES = {
    'init_weights': init_weights,
    'deepcopy': copy.deepcopy,
    'load_state_dict': reload,
    'to': lambda model: model.to(torch.float64),
}


@pytest.mark.parametrize('change', CHANGES)
@pytest.mark.parametrize('cls', CLASSES)
def test_every_weight_keeps_one_owner(cls, change):
    model = build(cls)
    names = list(model.state_dict())
    changed = CHANGES[change](model)
    assert_one_owner(changed)
    assert list(changed.state_dict()) == names
    # What is stored is all there is: a fresh model computes the same.
    fresh = build(cls).to(changed.pos_embed.dtype)
    fresh.load_state_dict(changed.state_dict())
    x = torch.randn(2, 3, 32, 32, dtype=changed.pos_embed.dtype)
    assert_close(fresh(x), changed(x), rtol=0, atol=0)


@pytest.mark.parametrize('cls', CLASSES)
def test_the_file_holds_every_weight_once(cls, tmp_path):
    # Wide enough for a file's own bytes, some 300 a tensor, not to count.
    arch = dict(ARCH, embed_dims=192, feedforward_channels=768)
    model = build(cls, arch=arch)
    path = tmp_path / 'model.pth'
    torch.save(model.state_dict(), path)
    expected = 4 * num_params(model)
    assert path.stat().st_size == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    'options',
    [
        dict(out_type='raw'),
        dict(out_type='cls_token'),
        dict(out_type='featmap'),
        dict(out_type='avg_featmap'),
        DETECTION,
    ],
    ids=lambda options: '-'.join(map(str, options.values())),
)
@pytest.mark.parametrize('cls', CLASSES)
def test_every_parameter_gets_a_gradient(cls, options):
    model = randomise(build(cls, **options))
    loss_of(model(torch.randn(2, 3, 32, 32))).backward()
    for name, gradient in gradients(model).items():
        assert gradient is not None, name
        # A key bias moves all scores of a query alike, softmax ignores it.
        if not name.endswith('attn.kv.bias'):
            assert gradient.abs().max() > 1e-6, name
