"""Simple FPN against ViTDet's pyramid in functional calls."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from halvit_mm.models import SimpleFPN
from halvit_mm.registry import MODELS
from tests.helpers import num_params, randomise

IN, OUT = 16, 8


def build(**kwargs):
    return SimpleFPN(**{'in_channels': IN, 'out_channels': OUT, **kwargs})


def layer_norm(x, weight, bias):
    """Over the channels of each pixel."""
    mean = x.mean(dim=1, keepdim=True)
    variance = x.var(dim=1, keepdim=True, correction=0)
    x = (x - mean) / torch.sqrt(variance + 1e-6)
    return x * weight[:, None, None] + bias[:, None, None]


def reference_level(params, x, doublings):
    """One level from its parameters, in the order of their use."""
    take = iter(params)
    for i in range(doublings):
        if i:
            x = F.gelu(layer_norm(x, next(take), next(take)))
        x = F.conv_transpose2d(x, next(take), next(take), stride=2)
    for _ in range(-doublings):
        x = F.max_pool2d(x, 2)
    for padding in (0, 1):  # of a 1 x 1 and of a 3 x 3 convolution
        x = F.conv2d(x, next(take), padding=padding)
        x = layer_norm(x, next(take), next(take))
    assert next(take, None) is None
    return x


@pytest.mark.parametrize(
    ('patch_size', 'doublings'), [(16, (2, 1, 0, -1)), (8, (1, 0, -1, -2))]
)
def test_equals_functional_calls(patch_size, doublings):
    neck = randomise(build(patch_size=patch_size)).double()
    x = torch.randn(2, IN, 8, 12, dtype=torch.float64)
    expected = [
        reference_level(level.parameters(), x, n)
        for level, n in zip(neck.levels, doublings)
    ]
    expected.append(expected[-1][:, :, ::2, ::2])
    assert_close(neck((x,)), tuple(expected))


@pytest.mark.parametrize('patch_size', [8, 16])
def test_strides(patch_size):
    height, width = 128, 192
    x = torch.randn(1, IN, height // patch_size, width // patch_size)
    outs = build(patch_size=patch_size)((x,))
    assert [tuple(out.shape) for out in outs] == [
        (1, OUT, height // stride, width // stride)
        for stride in (4, 8, 16, 32, 64)
    ]


def test_chosen_levels():
    x = torch.randn(1, IN, 4, 4)
    assert len(build(num_outs=4)((x,))) == 4
    outs = build(strides=(8, 16), num_outs=3)((x,))
    assert [out.shape[-1] for out in outs] == [8, 4, 2]


def test_number_of_parameters():
    # D = 384, C = 256; deconvolution a -> b: 4 a b + b; norm of c: 2 c
    # tail of a level from c channels: c C + 2 C + 9 C^2 + 2 C
    #     96: 615_424   192: 640_000   384: 689_152
    # stride 4:  384 -> 192 (295_104), norm (384), 192 -> 96 (73_824), tail
    # stride 8:  384 -> 192 (295_104), tail; strides 16 and 32: tails
    # 984_736 + 935_104 + 2 * 689_152
    assert num_params(SimpleFPN(in_channels=384)) == 3_298_144


def test_biases():
    for module in build().modules():
        if isinstance(module, nn.ConvTranspose2d):
            assert module.bias is not None
        elif isinstance(module, nn.Conv2d):
            assert module.bias is None


@pytest.mark.parametrize(
    ('norm_cfg', 'cls', 'attributes'),
    [
        (dict(type='BN', eps=1e-4), nn.BatchNorm2d, dict(eps=1e-4)),
        (dict(type='GN', num_groups=4), nn.GroupNorm, dict(num_groups=4)),
        (None, nn.LayerNorm, dict(eps=1e-6)),
    ],
)
def test_norm_by_config(norm_cfg, cls, attributes):
    neck = MODELS.build(
        dict(
            type='halvit_mm.SimpleFPN',
            in_channels=IN,
            out_channels=OUT,
            norm_cfg=norm_cfg,
        )
    )
    norms = [
        module
        for module in neck.modules()
        if isinstance(module, (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm))
    ]
    assert len(norms) == 1 + 2 * 4
    assert all(isinstance(norm, cls) for norm in norms)
    for name, value in attributes.items():
        assert {getattr(norm, name) for norm in norms} == {value}
    assert len(neck((torch.randn(2, IN, 4, 4),))) == 5


def test_starts_xavier_uniform():
    neck = build(in_channels=64, out_channels=32)
    neck.init_weights()
    for module in neck.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            weight = module.weight
            fans = sum(weight.shape[:2]) * weight[0, 0].numel()
            bound = math.sqrt(6 / fans)
            assert 0.98 * bound < weight.abs().max() <= bound
            assert weight.std().item() == pytest.approx(
                bound / 3**0.5, rel=0.1
            )
        if isinstance(module, nn.ConvTranspose2d):
            assert not module.bias.any()
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all() and not module.bias.any()


def test_init_cfg_can_be_chosen():
    neck = build(init_cfg=dict(type='Constant', layer='Conv2d', val=0.5))
    neck.init_weights()
    assert {w.unique().item() for w in (neck.levels[2][0].weight,)} == {0.5}


def test_every_parameter_gets_a_gradient():
    neck = randomise(build())
    outs = neck((torch.randn(1, IN, 8, 8),))
    sum((out * torch.randn_like(out)).sum() for out in outs).backward()
    for name, param in neck.named_parameters():
        assert param.grad is not None and param.grad.any(), name


# Which norms give float32 under autocast differs between devices.
@pytest.mark.parametrize('norm_cfg', [None, dict(type='BN')])
def test_float32_maps_under_autocast(norm_cfg):
    neck = randomise(build(norm_cfg=norm_cfg)).eval()
    x = torch.randn(1, IN, 4, 4)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        outs = neck((x.bfloat16(),))
    assert {out.dtype for out in outs} == {torch.float32}
    for out, expected in zip(outs, neck((x,))):
        assert (out - expected).abs().mean() < 0.1


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(patch_size=14), 'patch_size=14, .*: 14 is not a power of two'),
        (dict(strides=(4, 12)), r'strides=\(4, 12\): 12 is not a power'),
        (dict(strides=(0, 16)), r'strides=\(0, 16\): 0 is not a power'),
        (dict(num_outs=3), r'num_outs=3 .* strides \(4, 8, 16, 32\)'),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


@pytest.mark.parametrize('num_maps', [0, 2])
def test_it_takes_one_map(num_maps):
    maps = (torch.randn(1, IN, 4, 4),) * num_maps
    message = f'takes one map, but the backbone gives {num_maps}: .*indices'
    with pytest.raises(ValueError, match=message):
        build()(maps)
