"""Frozen stages: they stay as they are, and nothing waits for a gradient."""

import pytest
import torch
from mmengine.logging import MMLogger

from halvit_mm.models import HaLViT, PlainViT
from tests.helpers import build, gradients, loss_of, randomise

CLASSES = [HaLViT, PlainViT]
STEM = ('patch_embed', 'pos_embed', 'cls_token')


def frozen_prefixes(num_stages):
    return (*STEM, *(f'layers.{i}.' for i in range(num_stages)))


@pytest.mark.parametrize('out_type', ['cls_token', 'avg_featmap', 'featmap'])
@pytest.mark.parametrize('frozen_stages', [1, 2])
@pytest.mark.parametrize('cls', CLASSES)
def test_a_step_moves_what_is_not_frozen(cls, frozen_stages, out_type):
    options = dict(frozen_stages=frozen_stages, out_type=out_type)
    model = randomise(build(cls, **options)).train()
    before = {k: v.detach().clone() for k, v in model.named_parameters()}
    # All parameters, with decay: what has a gradient or not decides.
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    loss_of(model(torch.randn(2, 3, 32, 32))).backward()
    # A parameter to be trained without a gradient stalls DDP.
    lacking = [k for k, v in gradients(model).items() if v is None]
    assert lacking == []
    optimizer.step()
    for name, value in model.named_parameters():
        frozen = name.startswith(frozen_prefixes(frozen_stages))
        assert torch.equal(value, before[name]) == frozen, name


@pytest.mark.parametrize('frozen_stages', [-1, 0])
@pytest.mark.parametrize('cls', CLASSES)
def test_nothing_is_frozen_by_default(cls, frozen_stages):
    model = build(cls, frozen_stages=frozen_stages).train()
    assert all(param.requires_grad for param in model.parameters())
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize('out_type', ['cls_token', 'avg_featmap', 'featmap'])
@pytest.mark.parametrize('cls', CLASSES)
def test_all_layers_frozen(cls, out_type):
    options = dict(frozen_stages=3, out_type=out_type, pre_norm=True)
    model = build(cls, **options).train()
    assert gradients(model) == {}
    assert not model(torch.randn(1, 3, 32, 32))[0].requires_grad


@pytest.mark.parametrize('cls', CLASSES)
def test_frozen_layers_stay_in_eval_mode(cls):
    options = dict(frozen_stages=2, drop_rate=0.1, drop_path_rate=0.5)
    model = build(cls, **options)
    for _ in range(2):  # as constructed is not enough, loops call train()
        model.train()
        for module in (
            model.patch_embed,
            model.drop_after_pos,
            *model.layers[:2],
        ):
            assert not any(m.training for m in module.modules())
        assert all(m.training for m in model.layers[2].modules())
        model.eval()
        assert not any(m.training for m in model.modules())


@pytest.mark.parametrize('cls', CLASSES)
def test_frozen_layers_drop_nothing(cls):
    options = dict(frozen_stages=2, drop_rate=0.3, out_indices=[1])
    model = randomise(build(cls, **options, drop_path_rate=0.9)).train()
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(x)[0], model(x)[0])


def test_frozen_random_numbers_are_told(caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        build(PlainViT, frozen_stages=2).init_weights()
        build(PlainViT).init_weights()
    finally:
        logger.removeHandler(caplog.handler)
    (message,) = (r.message for r in caplog.records if 'frozen' in r.message)
    assert message.startswith('frozen_stages=2, but no pretrained weights are')
