"""Weights packed for inference: same results, never stale ones."""

import copy

import pytest
import torch
from torch.testing import assert_close

from halvit_mm.models.backbones import HaLViT, PlainViT
from halvit_mm.models.layers import PreparedModule, prepare, unprepare
from tests.helpers import build, randomise

IMAGE = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
OPTIONS = [
    {},
    dict(qkv_bias=False),
    dict(act='gelu_tanh'),
    dict(
        window_size=3,
        window_block_indexes=[0],
        with_cls_token=False,
        out_type='featmap',
    ),
]


def ready(**kwargs):
    return randomise(build(HaLViT, **kwargs)).eval()


def is_prepared(model):
    states = {
        bool(m.prepared)
        for m in model.modules()
        if isinstance(m, PreparedModule)
    }
    assert len(states) == 1
    return states.pop()


@torch.no_grad()
def predict(model, dtype=None):
    with torch.autocast('cpu', dtype, enabled=dtype is not None):
        return model(IMAGE)[0].float()


@pytest.mark.parametrize('options', OPTIONS)
def test_same_result_in_float32(options):
    model = ready(**options)
    expected = predict(model)
    assert prepare(model, torch.float32) == 6  # attention and FFN, 3 layers
    assert_close(predict(model), expected)


@pytest.mark.parametrize('options', OPTIONS)
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_as_good_as_autocast(options, dtype):
    model = ready(**options)
    exact = predict(model)
    allowed = (predict(model, dtype) - exact).norm()
    prepare(model, dtype)
    for autocast in (None, dtype):
        error = (predict(model, autocast) - exact).norm()
        assert 0 < error <= 2 * allowed


def test_its_dtype_holds_whatever_autocast_says():
    model = prepare_copy(ready(), torch.float16)
    layer = model.layers[0]
    x = torch.randn(1, 16, 32)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        assert layer.attn(x, (4, 4)).dtype == torch.float16
        assert layer.ffn(x).dtype == torch.float16


def prepare_copy(model, dtype=torch.bfloat16):
    model = copy.deepcopy(model)
    prepare(model, dtype)
    return model


CHANGES = {
    'train': lambda m: m.train(),
    'load_state_dict': lambda m: m.load_state_dict(ready().state_dict()),
    'to': lambda m: m.to(torch.float64).to(torch.float32),
    'unprepare': unprepare,
}


@pytest.mark.parametrize('change', CHANGES)
def test_dropped_before_it_is_stale(change):
    model = prepare_copy(ready())
    assert is_prepared(model)
    CHANGES[change](model)
    assert not is_prepared(model)
    model.eval()
    fresh = ready()
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(predict(model), predict(fresh))


def test_not_in_the_state_dict_nor_lost_by_a_copy():
    plain, model = ready(), prepare_copy(ready())
    assert list(model.state_dict()) == list(plain.state_dict())
    assert is_prepared(copy.deepcopy(model))
    assert is_prepared(model.eval())


def test_gradients_come_from_the_parameters():
    model = prepare_copy(ready())
    expected = ready()
    expected.load_state_dict(model.state_dict())
    prepare(model)
    for m in (model, expected):
        m(IMAGE)[0].square().sum().backward()
    for mine, other in zip(model.parameters(), expected.parameters()):
        assert_close(mine.grad, other.grad)


def test_messages():
    with pytest.raises(ValueError, match=r'call eval\(\) first'):
        prepare(build(HaLViT).train())
    with pytest.raises(ValueError, match='PlainViT holds no tied layers'):
        prepare(build(PlainViT).eval())
    with pytest.raises(ValueError, match='int8 is not floating-point'):
        prepare(ready(), torch.int8)
