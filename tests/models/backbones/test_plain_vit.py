"""The skeleton of the plain backbones: what it computes and returns."""

import pytest
import torch
from mmpretrain.models import VisionTransformer
from torch.testing import assert_close

from halvit_mm.models import HaLViT, PlainViT
from tests.helpers import (
    ARCH,
    DETECTION,
    build,
    gradients,
    loss_of,
    randomise,
)

CLASSES = [HaLViT, PlainViT]
D = ARCH['embed_dims']


def images(height=32, width=32):
    return torch.randn(2, 3, height, width)


@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(out_type='raw', qkv_bias=False),
        dict(out_type='featmap', with_cls_token=False),
        dict(out_type='avg_featmap', final_norm=False),
        dict(out_type='featmap', pre_norm=True, out_indices=[0, 2]),
        dict(drop_path_rate=0.5),
        dict(drop_rate=0.2, drop_path_rate=0.3, out_type='raw'),
    ],
    ids=str,
)
@pytest.mark.parametrize('train', [False, True], ids=['eval', 'train'])
def test_equals_mmpretrain(options, train):
    host = randomise(build(VisionTransformer, **options))
    ours = build(PlainViT, **options)
    ours.load_state_dict(host.state_dict())
    x = images()
    outs = []
    for model in (host, ours):
        model.train(train)
        torch.manual_seed(1)  # the same samples skip the same branches
        outs.append(model(x))
    assert_close(outs[1], outs[0], rtol=1e-5, atol=1e-5)


def test_starts_as_mmpretrain():
    states = []
    for cls in (VisionTransformer, PlainViT):
        torch.manual_seed(1)
        model = build(cls)
        model.init_weights()
        states.append(model.state_dict())
    assert_close(states[1], states[0], rtol=0, atol=0)


@pytest.mark.parametrize('cls', CLASSES)
def test_layer_depth_is_mmpretrains(cls):
    host, ours = build(VisionTransformer), build(cls)
    for name, _ in ours.named_parameters():
        name = f'backbone.{name}'
        depth = ours.get_layer_depth(name, 'backbone.')
        assert depth == host.get_layer_depth(name, 'backbone.')
    # the stem, three layers, and what follows
    depths = {ours.get_layer_depth(n)[0] for n, _ in ours.named_parameters()}
    assert depths == {0, 1, 2, 3, 4}
    assert ours.get_layer_depth('head.fc.weight', 'backbone.') == (4, 5)


@pytest.mark.parametrize('cls', CLASSES)
@pytest.mark.parametrize(
    ('out_type', 'shape'),
    [
        ('raw', (2, 1 + 3 * 5, D)),
        ('cls_token', (2, D)),
        ('featmap', (2, D, 3, 5)),
        ('avg_featmap', (2, D)),
    ],
)
def test_rectangular_images(cls, out_type, shape):
    model = build(cls, img_size=(24, 40), out_type=out_type)
    (out,) = model(images(24, 40))
    assert out.shape == shape


@pytest.mark.parametrize('cls', CLASSES)
def test_the_map_lies_as_the_image(cls):
    model = randomise(build(cls, **DETECTION, out_indices=0))
    # Every token attends to every other: cut the branches to see one patch.
    for layer in model.layers:
        layer.ln1.weight.data.zero_()
        layer.ln2.weight.data.zero_()
    x = torch.zeros(1, 3, 24, 40)
    x[:, :, 8:16, 32:40] = 1.0  # row 1 of 3, column 4 of 5
    change = (model(x)[0] - model(x * 0)[0]).abs().sum(dim=1).squeeze()
    assert change.nonzero().tolist() == [[1, 4]]


@pytest.mark.parametrize('cls', CLASSES)
def test_out_indices(cls):
    model = randomise(build(cls, out_type='raw', out_indices=[0, 1, 2]))
    x = images()
    every = model(x)
    for indices, expected in (
        (-1, [2]),
        (0, [0]),
        ([0, -1], [0, 2]),
        ((1, 2), [1, 2]),
        ([-3], [0]),
    ):
        some = build(cls, out_type='raw', out_indices=indices)
        some.load_state_dict(model.state_dict())
        assert_close(some(x), tuple(every[i] for i in expected))


@pytest.mark.parametrize('cls', CLASSES)
def test_the_final_norm_is_the_last_layers_only(cls):
    options = dict(out_type='raw', out_indices=[1, 2])
    model = randomise(build(cls, **options))
    plain = build(cls, **options, final_norm=False)
    missing = plain.load_state_dict(model.state_dict(), strict=False)
    assert missing.unexpected_keys == ['ln1.weight', 'ln1.bias']
    x = images()
    (middle, last), (plain_middle, plain_last) = model(x), plain(x)
    assert_close(middle, plain_middle)
    assert_close(last, model.ln1(plain_last))


@pytest.mark.parametrize('cls', CLASSES)
def test_gelu_has_two_forms(cls):
    erf = randomise(build(cls))
    tanh = build(cls, act='gelu_tanh')
    tanh.load_state_dict(erf.state_dict())
    x = images()
    difference = (erf(x)[0] - tanh(x)[0]).abs().max()
    assert 1e-5 < difference < 0.1  # close, but not the same


@pytest.mark.parametrize('frozen_stages', [-1, 2])
@pytest.mark.parametrize('cls', CLASSES)
def test_checkpointing_changes_nothing(cls, frozen_stages):
    options = dict(drop_path_rate=0.5, frozen_stages=frozen_stages)
    plain = randomise(build(cls, **options))
    frugal = build(cls, **options, with_cp=True)
    frugal.load_state_dict(plain.state_dict())
    x = images()
    outs = []
    for model in (plain, frugal):
        torch.manual_seed(1)
        outs.append(model(x))
        loss_of(outs[-1]).backward()
    assert_close(outs[1], outs[0], rtol=0, atol=0)
    assert_close(gradients(frugal), gradients(plain))


@pytest.mark.parametrize('with_cp', [False, True])
@pytest.mark.parametrize('cls', CLASSES)
def test_checkpointing_recomputes(cls, with_cp):
    model = build(cls, with_cp=with_cp)
    calls = []
    model.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
    loss_of(model(images())).backward()
    assert len(calls) == 1 + with_cp
    with torch.no_grad():
        model(images())
    assert len(calls) == 2 + with_cp  # nothing to recompute


@pytest.mark.parametrize(
    'windows', [{}, dict(window_size=3, window_block_indexes=[0, 1])], ids=str
)
@pytest.mark.parametrize('cls', CLASSES)
def test_bfloat16(cls, windows):
    model = randomise(build(cls, **DETECTION, **windows))
    x = images()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        outs = model(x)
    error = (outs[0] - model(x)[0]).abs().mean()
    assert 0 < error < 0.05  # of outputs around 1, after the final norm
    loss_of(outs).backward()
    for name, gradient in gradients(model).items():
        assert gradient.dtype == torch.float32, name
        assert gradient.isfinite().all(), name


@pytest.mark.parametrize('cls', CLASSES)
def test_windows(cls):
    model = build(
        cls, **DETECTION, window_size=2, window_block_indexes=[0, -1]
    )
    sizes = [layer.attn.window_size for layer in model.layers]
    assert sizes == [2, 0, 2]
    assert model(images(24, 40))[0].shape == (2, D, 3, 5)


@pytest.mark.parametrize('cls', CLASSES)
def test_windows_keep_to_themselves(cls):
    model = randomise(
        build(cls, **DETECTION, window_size=2, window_block_indexes=range(3))
    )
    x = images()
    changed = x.clone()
    changed[:, :, :16, :16] += 1.0  # the four patches of the first window
    difference = (model(x)[0] - model(changed)[0]).abs().amax(dim=(0, 1))
    inside = torch.zeros(4, 4, dtype=torch.bool)
    inside[:2, :2] = True
    assert torch.equal(difference > 0, inside)


@pytest.mark.parametrize('cls', CLASSES)
def test_a_window_of_the_whole_grid_is_global_attention(cls):
    model = randomise(build(cls, **DETECTION))
    windowed = build(
        cls, **DETECTION, window_size=7, window_block_indexes=range(3)
    )
    windowed.load_state_dict(model.state_dict())
    x = images()
    assert_close(windowed(x), model(x), atol=1e-5, rtol=1e-5)
