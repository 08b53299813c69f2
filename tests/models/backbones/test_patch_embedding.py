"""A patch embedding at another patch size."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from halvit_mm.checkpoint import load_weights
from halvit_mm.models import PlainViT
from halvit_mm.models.backbones.patch_embedding import (
    fit_patches,
    resample_patches,
)
from tests.helpers import build, randomise


def resized(images, size):
    return F.interpolate(
        images, size=(size, size), mode='bilinear', antialias=True
    )


@pytest.mark.parametrize(('there', 'here'), [(14, 16), (8, 16), (16, 16)])
def test_resized_patches_give_the_same_tokens(there, here):
    """Exact to larger patches, FlexiViT, Sec. 3."""
    old = torch.randn(5, 3, there, there)
    new = resample_patches(old, here)
    patches = torch.randn(4, 3, there, there)
    expected = F.conv2d(patches, old)
    assert_close(
        F.conv2d(resized(patches, here), new), expected, rtol=0, atol=1e-3
    )


def test_to_smaller_patches_it_is_the_best_fit():
    """The least squared error over random patches, among its neighbours."""
    old, patches = torch.randn(1, 1, 16, 16), torch.randn(4000, 1, 16, 16)
    new = resample_patches(old, 8)
    small, tokens = resized(patches, 8), F.conv2d(patches, old).flatten()

    def error(weight):
        return (F.conv2d(small, weight).flatten() - tokens).square().mean()

    best = torch.linalg.lstsq(small.flatten(1), tokens[:, None]).solution
    assert error(new) <= 1.2 * error(best.view(1, 1, 8, 8))


def test_a_backbone_of_another_patch_size(tmp_path, caplog):
    there = randomise(build(PlainViT))  # 4 x 4 patches of 8 pixels
    torch.save(there.state_dict(), tmp_path / 'there.pth')
    here = build(PlainViT, img_size=64, patch_size=16).eval()
    assert load_weights(here, str(tmp_path / 'there.pth')) == 1.0
    weight = there.patch_embed.projection.weight
    assert_close(
        here.patch_embed.projection.weight, resample_patches(weight, 16)
    )
    # resuming takes a checkpoint of the same model only
    state = there.state_dict()
    here.adapt_state_dict(state, own=True)
    name = 'patch_embed.projection.weight'
    assert torch.equal(state[name], weight)


def test_patches_that_cannot_be_resampled():
    state = dict(weight=torch.zeros(4, 3, 8, 16))
    message = 'patches of 8 x 16 pixels cannot be resampled to 8 x 8, only sq'
    with pytest.raises(ValueError, match=message):
        fit_patches(state, 'weight', nn.Conv2d(3, 4, 8))
