"""Position embeddings: fitted on load, interpolated in the forward pass."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.runner import load_checkpoint
from mmpretrain.models import VisionTransformer
from torch import nn
from torch.testing import assert_close

from halvit_mm.checkpoint import load_weights
from halvit_mm.models import HaLViT, PlainViT
from halvit_mm.models.backbones import position_embeddings
from tests.helpers import ARCH, build, randomise

CLASSES = [HaLViT, PlainViT]
IMAGENET = dict(img_size=224, patch_size=16)  # a grid of 14 x 14
SMALL = dict(ARCH, num_layers=1)


def vit(cls, with_cls_token=True, **kwargs):
    options = dict(out_type='raw', arch=SMALL, with_cls_token=with_cls_token)
    return randomise(build(cls, **{**options, **kwargs}))


def resized(embeddings, old, new):
    """Args: embeddings: (1, tokens, D), without a cls token's."""
    grid = embeddings.reshape(*old, -1).permute(2, 0, 1)[None]
    grid = F.interpolate(grid, size=new, mode='bicubic', align_corners=False)
    return grid[0].permute(1, 2, 0).reshape(1, new[0] * new[1], -1)


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
@pytest.mark.parametrize(
    ('img_size', 'grid'),
    [((320, 192), (20, 12)), (224, (14, 14)), (384, (24, 24))],
)
@pytest.mark.parametrize('ours_has_token', [True, False])
@pytest.mark.parametrize('theirs_has_token', [True, False])
@pytest.mark.parametrize('cls', CLASSES)
def test_load(cls, theirs_has_token, ours_has_token, img_size, grid, prefix):
    theirs = vit(cls, theirs_has_token, **IMAGENET)
    ours = vit(cls, ours_has_token, img_size=img_size, patch_size=16)
    # ours before: a token that the checkpoint lacks stays
    source = theirs if theirs_has_token else ours
    tokens = []
    if ours_has_token:
        tokens = [source.pos_embed.detach()[:, :1].clone()]
        token = source.cls_token.detach().clone()
    num_extra = int(theirs_has_token)
    pretrained = theirs.pos_embed.detach()[:, num_extra:]
    expected = torch.cat((*tokens, resized(pretrained, (14, 14), grid)), 1)

    model = nn.ModuleDict({'backbone': ours}) if prefix else ours
    state = {f'{prefix}{k}': v for k, v in theirs.state_dict().items()}
    keys = list(state)
    model.load_state_dict(state)
    assert list(state) == keys  # the caller's dict is left alone
    assert_close(ours.pos_embed.detach(), expected)
    if ours_has_token:
        assert torch.equal(ours.cls_token, token)
    assert torch.equal(
        ours.patch_embed.projection.weight,
        theirs.patch_embed.projection.weight,
    )


def test_load_in_the_own_rectangular_grid():
    theirs, ours = (vit(HaLViT, img_size=(32, 64)) for _ in range(2))
    ours.load_state_dict(theirs.state_dict())
    assert torch.equal(ours.pos_embed, theirs.pos_embed)


def test_load_keeps_the_models_precision():
    theirs, ours = vit(HaLViT, **IMAGENET), vit(HaLViT).to(torch.bfloat16)
    state = theirs.state_dict()
    del state['patch_embed.projection.weight']  # 16 x 16 there, 8 x 8 here
    ours.load_state_dict(state, strict=False)
    assert ours.pos_embed.dtype == torch.bfloat16
    expected = resized(theirs.pos_embed.detach()[:, 1:], (14, 14), (4, 4))
    assert_close(ours.pos_embed[:, 1:].detach(), expected.to(torch.bfloat16))


def test_a_grid_that_cannot_be_told():
    # 20 x 12 = 240 embeddings: neither square nor 14 x 14
    state = vit(HaLViT, img_size=(320, 192), patch_size=16).state_dict()
    del state['pos_embed_grid']  # as foreign files are
    with pytest.raises(ValueError, match='has 240 .* nor 14 x 14'):
        vit(HaLViT, **IMAGENET).load_state_dict(state)


WIDE = dict(img_size=(112, 448), patch_size=16)  # 7 x 28, as many as 14 x 14


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(
        position_embeddings,
        'print_log',
        lambda text, logger: lines.append(text),
    )
    return lines


@pytest.mark.parametrize('cls', CLASSES)
def test_as_many_tokens_in_another_grid(cls, said, tmp_path):
    theirs, ours = vit(cls, **IMAGENET), vit(cls, **WIDE)
    path = str(tmp_path / 'imagenet.pth')
    torch.save(theirs.state_dict(), path)
    learnt = theirs.pos_embed.detach()[:, 1:]
    load_weights(ours, path)
    expected = resized(learnt, (14, 14), (7, 28))
    assert_close(ours.pos_embed[:, 1:].detach(), expected)
    assert 'may be of 14 x 14 or, as here, 7 x 28 tokens' in said[0]
    assert 'source_grid=(7, 28)' in said[0]
    assert said[1] == 'position embeddings: (14, 14) -> (7, 28)'
    assert len(said) == 2  # not once more by load_state_dict
    # the user knows better
    for grid, expected in (
        ((7, 28), learnt),
        ((28, 7), resized(learnt, (28, 7), (7, 28))),
    ):
        pretrained = dict(type='Pretrained', checkpoint=path, source_grid=grid)
        ours = vit(cls, **WIDE, init_cfg=pretrained)
        ours.init_weights()
        assert_close(ours.pos_embed[:, 1:].detach(), expected)
    with pytest.raises(ValueError, match=r'imagenet.pth: .* 196 .*\(7, 7\)'):
        load_weights(ours, path, source_grid=(7, 7))
    with pytest.raises(ValueError, match='no position embeddings that Linear'):
        load_weights(nn.Linear(2, 2), path, source_grid=(7, 28))


@pytest.mark.parametrize('cls', CLASSES)
def test_a_checkpoint_of_ours_tells_its_grid(cls, said, tmp_path):
    theirs, path = vit(cls, **WIDE), str(tmp_path / 'ours.pth')
    torch.save(dict(state_dict=theirs.state_dict()), path)
    for load in (load_weights, load_checkpoint):  # as mmengine resumes
        ours = vit(cls, **WIDE)
        load(ours, path)
        assert torch.equal(ours.pos_embed, theirs.pos_embed)
    assert not said
    square = vit(cls, **IMAGENET)
    load_weights(square, path)
    learnt = theirs.pos_embed.detach()[:, 1:]
    expected = resized(learnt, (7, 28), (14, 14))
    assert_close(square.pos_embed[:, 1:].detach(), expected)


@pytest.mark.parametrize('cls', CLASSES)
def test_a_transposed_grid_is_interpolated(cls, said, tmp_path):
    theirs, path = vit(cls, img_size=(32, 64)), str(tmp_path / 'ours.pth')
    torch.save(theirs.state_dict(), path)
    learnt = theirs.pos_embed.detach()[:, 1:]
    expected = resized(learnt, (4, 8), (8, 4))
    for load in (load_weights, load_checkpoint):
        ours = vit(cls, img_size=(64, 32))
        load(ours, path)
        assert_close(ours.pos_embed[:, 1:].detach(), expected)
        assert said == ['position embeddings: (4, 8) -> (8, 4)']
        said.clear()
        assert ours.pos_embed_grid.tolist() == [8, 4]


@pytest.mark.parametrize('img_size', [(56, 224), (8, 128), (32, 64)])
@pytest.mark.parametrize('cls', CLASSES)
def test_an_older_checkpoint_without_a_mark_is_resumed(
    cls, img_size, said, tmp_path
):
    """Grids of 7 x 28, 1 x 16 and 4 x 8; two have a square's number."""
    theirs, path = vit(cls, img_size=img_size), str(tmp_path / 'old.pth')
    state = nn.ModuleDict(dict(backbone=theirs)).state_dict()
    del state['backbone.pos_embed_grid']
    torch.save(dict(state_dict=state), path)
    for load in (
        lambda model: model.load_state_dict(state),
        lambda model: load_checkpoint(model, path, strict=True),
        lambda model: load_weights(model, path),  # as tools/test.py
    ):
        ours = vit(cls, img_size=img_size)
        load(nn.ModuleDict(dict(backbone=ours)))
        assert torch.equal(ours.pos_embed, theirs.pos_embed)
        (line,) = said
        assert 'do not tell their grid are taken as they are' in line
        said.clear()
        grid = [img_size[0] // 8, img_size[1] // 8]
        assert ours.pos_embed_grid.tolist() == grid


def test_a_square_grid_has_mmpretrains_state_dict():
    ours, host = vit(PlainViT), vit(VisionTransformer)
    host.load_state_dict(ours.state_dict())
    assert torch.equal(host.pos_embed, ours.pos_embed)


@pytest.mark.parametrize('with_cls_token', [True, False])
@pytest.mark.parametrize('size', [(24, 72), (48, 32), (32, 32)])
@pytest.mark.parametrize('cls', CLASSES)
def test_forward_at_another_size(cls, size, with_cls_token):
    model = vit(cls, with_cls_token)  # 32 x 32 pixels, 4 x 4 tokens
    grid = (size[0] // 8, size[1] // 8)
    native = vit(cls, with_cls_token, img_size=size)
    num_extra = int(with_cls_token)
    learnt = model.pos_embed.detach()
    state = model.state_dict()
    state['pos_embed'] = torch.cat(
        (
            learnt[:, :num_extra],
            resized(learnt[:, num_extra:], (4, 4), grid),
        ),
        dim=1,
    )
    native.load_state_dict(state)
    x = torch.randn(1, 3, *size)
    assert_close(model(x), native(x), atol=1e-5, rtol=1e-5)


def test_forward_interpolates_as_told():
    bicubic = vit(HaLViT)
    bilinear = vit(HaLViT, interpolate_mode='bilinear')
    bilinear.load_state_dict(bicubic.state_dict())
    x = torch.randn(1, 3, 48, 48)
    assert not torch.allclose(bicubic(x)[0], bilinear(x)[0])
