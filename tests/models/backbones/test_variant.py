"""A checkpoint of one tying is not loaded into another without a word."""

import logging

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.runner import load_checkpoint

from halvit_mm.models import HaLViT, PlainViT, SharedHaLViT
from tests.helpers import build

VARIANTS = {
    'none': {},
    'signed': dict(gain='signed'),
    'none+shift1': dict(hidden_shift=1),
    'signed+shift1': dict(gain='signed', hidden_shift=1),
    'learnt': dict(gain='learnt'),
    'none+like': dict(attn='like'),
    'signed+like': dict(gain='signed', attn='like'),
}


@pytest.mark.parametrize('variant', VARIANTS)
def test_the_mark_is_a_small_buffer(variant):
    classes = [HaLViT, SharedHaLViT]
    if 'attn' in VARIANTS[variant]:
        classes.remove(SharedHaLViT)  # has the paper's only
    for cls in classes:
        buffer = build(cls, **VARIANTS[variant]).state_dict()['variant']
        assert bytes(buffer.tolist()).decode().strip() == variant
        assert buffer.numel() == 32


@pytest.mark.parametrize('there', VARIANTS)
@pytest.mark.parametrize('here', VARIANTS)
@pytest.mark.parametrize('strict', [True, False])
def test_another_variant_is_refused(here, there, strict, tmp_path):
    """By load_state_dict and by mmengine's load_checkpoint, strict or not."""
    if 'learnt' in (here, there) and here != there and strict:
        pytest.skip('the names differ, too')
    model = build(HaLViT, **VARIANTS[here])
    other = build(HaLViT, **VARIANTS[there])
    path = str(tmp_path / 'a.pth')
    torch.save(dict(state_dict=other.state_dict()), path)
    if here == there:
        model.load_state_dict(other.state_dict(), strict=strict)
        load_checkpoint(model, path, strict=strict)
        return
    message = f'of the variant {there!r}, this one is {here!r}'
    for load in (
        lambda: model.load_state_dict(other.state_dict(), strict=strict),
        lambda: load_checkpoint(model, path, strict=strict),
    ):
        with pytest.raises(ValueError) as error:
            load()
        assert message in str(error.value)
        versions = (there, here) == ('signed', 'signed+like')
        hint = "attn='paper' (HaLViT±, version 1)"
        assert (hint in str(error.value)) == versions


@pytest.mark.parametrize('variant', VARIANTS)
def test_a_file_without_a_mark_is_loaded_with_one_line(variant, caplog):
    model = build(HaLViT, **VARIANTS[variant])
    state = build(HaLViT, **VARIANTS[variant]).state_dict()
    state.pop('variant')
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(caplog.handler)
    try:
        model.load_state_dict(state)
    finally:
        logger.removeHandler(caplog.handler)
        logger.setLevel(level)
    told = [r.message for r in caplog.records if 'which variant' in r.message]
    assert len(told) == 1
    assert repr(variant) in told[0]
    assert 'variant' not in state  # the caller's dict stays as it was


@pytest.mark.parametrize('assign', [True, False])
@pytest.mark.parametrize('marked', [True, False])
def test_a_model_without_memory_is_filled(assign, marked):
    source = build(HaLViT, gain='signed')
    state = source.state_dict()
    if not marked:
        state.pop('variant')
    with torch.device('meta'):
        model = build(HaLViT, gain='signed')
    if not assign:
        model.to_empty(device='cpu')
    model.load_state_dict(state, assign=assign)
    assert torch.equal(model.variant, source.variant)


def test_a_factor_of_the_scores_is_marked_in_untied_vits_too():
    plain, scaled = build(PlainViT), build(PlainViT, attention_scale=3)
    assert 'variant' not in plain.state_dict()
    text = bytes(scaled.variant.tolist()).decode().strip()
    assert text == 'untied+tau3'
    with pytest.raises(ValueError, match="'untied\\+tau3', this one is 'unt"):
        plain.load_state_dict(scaled.state_dict())
    scaled.load_state_dict(plain.state_dict())  # foreign weights have no mark
