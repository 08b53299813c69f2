"""Errors name the value and what is allowed."""

import pytest
import torch

from halvit_mm.models import HaLViT, PlainViT
from tests.helpers import ARCH, DETECTION, build

CLASSES = [HaLViT, PlainViT]


@pytest.mark.parametrize('cls', CLASSES)
@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            dict(arch='giant'),
            r"unknown arch 'giant': .*'deit-small'.*'medium'.*'tiny'.* dict",
        ),
        (
            dict(arch=dict(embed_dims=32, num_layers=3)),
            r"lacks \['num_heads', 'feedforward_channels'\]; it needs "
            r"\['embed_dims', 'num_layers', 'num_heads'",
        ),
        (
            dict(drop_path_rate=1),
            'drop_path_rate=1.0 must be at least 0 and below 1',
        ),
        (dict(act='relu'), r"act='relu': .*\['gelu', 'gelu_tanh'\]"),
        (
            dict(arch=dict(ARCH, num_heads=5)),
            'embed_dims=32 is not divisible by num_heads=5',
        ),
        (
            dict(img_size=(32, 36)),
            r'image size \(32, 36\) is not a multiple of patch_size=8',
        ),
        (
            dict(window_size=2, window_block_indexes=[0, 3], **DETECTION),
            r'window_block_indexes=\[0, 3\]: 3 is none of the 3 layers 0 to 2',
        ),
        (
            dict(window_size=2, window_block_indexes=[-4], **DETECTION),
            r'window_block_indexes=\[-4\]: -4 is none of the 3 layers',
        ),
        (
            dict(window_size=2, window_block_indexes=[0]),
            'set with_cls_token=False',
        ),
        (
            dict(window_block_indexes=[0], **DETECTION),
            'window_size of at least 1, not 0',
        ),
        (dict(frozen_stages=4), 'frozen_stages=4, .* only 3 layers'),
        (dict(out_indices=3), r'out_indices=\[3\]: 3 is none of the 3'),
        (dict(out_indices=[0, -4]), r'out_indices=\[0, -4\]: -4 is none'),
        (dict(out_type='map'), "out_type` map, .*'featmap'"),
        (dict(with_cls_token=False), 'with_cls_token must be True'),
    ],
    ids=lambda value: '-'.join(value) if isinstance(value, dict) else '',
)
def test_constructor(cls, options, message):
    with pytest.raises(ValueError, match=f'(?s){message}'):
        build(cls, **options)


@pytest.mark.parametrize('cls', CLASSES)
def test_options_of_the_host_that_have_no_effect_are_refused(cls):
    with pytest.raises(ValueError, match='layer_scale_init_value has no'):
        build(cls, layer_scale_init_value=0.1)


@pytest.mark.parametrize('cls', CLASSES)
def test_arguments_of_layers_are_passed_on(cls):
    model = build(cls, layer_cfgs=dict(attn_drop_rate=0.25))
    assert {layer.attn.attn_drop_rate for layer in model.layers} == {0.25}


@pytest.mark.parametrize('size', [(32, 36), (30, 32)])
@pytest.mark.parametrize('cls', CLASSES)
def test_image_that_does_not_divide(cls, size):
    with pytest.raises(ValueError) as info:
        build(cls)(torch.zeros(1, 3, *size))
    assert str(size) in str(info.value)
    assert 'pad_size_divisor=8' in str(info.value)
