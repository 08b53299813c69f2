"""Tokens that only attention sees."""

import pytest
import torch
from torch.testing import assert_close

from halvit_mm.models import HaLViT, PlainViT
from tests.helpers import build, gradients, loss_of, randomise

IMAGE = torch.randn(2, 3, 32, 48)


@pytest.mark.parametrize('cls', [PlainViT, HaLViT])
@pytest.mark.parametrize('with_cls_token', [True, False])
def test_only_the_raw_output_has_them(cls, with_cls_token):
    options = dict(num_registers=3, with_cls_token=with_cls_token)
    raw = randomise(build(cls, out_type='raw', **options)).eval()
    num_extra = 3 + with_cls_token
    tokens = raw(IMAGE)[0]
    assert tokens.shape == (2, num_extra + 4 * 6, 32)
    maps = build(cls, out_type='featmap', **options).eval()
    maps.load_state_dict(raw.state_dict())
    (found,) = maps(IMAGE)
    assert_close(found.flatten(2).mT, tokens[:, num_extra:])
    # They are seen: what the patches become depends on them.
    with torch.no_grad():
        maps.register_tokens.neg_()
    assert (maps(IMAGE)[0] - found).abs().max() > 1e-3


def test_they_are_trained_and_frozen():
    vit = build(PlainViT, num_registers=2)
    loss_of(vit(IMAGE)).backward()
    assert gradients(vit)['register_tokens'].abs().sum() > 0
    assert vit.get_layer_depth('backbone.register_tokens', 'backbone.')[0] == 0
    frozen = build(PlainViT, num_registers=2, frozen_stages=1)
    assert not frozen.register_tokens.requires_grad


def test_another_number_is_refused():
    state = build(PlainViT, num_registers=2).state_dict()
    with pytest.raises(ValueError, match='2 register tokens, the backbone 0'):
        build(PlainViT).adapt_state_dict(dict(state))
    with pytest.raises(ValueError, match='set num_registers=2$|=2, or leave'):
        build(PlainViT, num_registers=1).adapt_state_dict(dict(state))
    with pytest.raises(ValueError, match='0 register tokens, the backbone 1'):
        state = build(PlainViT).state_dict()
        build(PlainViT, num_registers=1).adapt_state_dict(state)
    with pytest.raises(ValueError, match='a register belongs to no window'):
        build(
            PlainViT,
            out_type='featmap',
            num_registers=1,
            with_cls_token=False,
            window_size=2,
            window_block_indexes=[0],
        )
