"""Weights packed for inference: same results, never stale ones."""

import copy
import pickle

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from torch.testing import assert_close

from halvit_mm.models.backbones import HaLViT, PlainViT
from halvit_mm.models.layers import PackedModule, pack_weights, unpack_weights
from tests.helpers import build, randomise

IMAGE = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
OPTIONS = [
    {},
    dict(qkv_bias=False),
    dict(act='gelu_tanh'),
    dict(attn='like', gain='signed'),
    dict(attn='like', qkv_bias=False),
    dict(
        attn='like',
        window_size=3,
        window_block_indexes=[0],
        with_cls_token=False,
        out_type='featmap',
    ),
    dict(
        window_size=3,
        window_block_indexes=[0],
        with_cls_token=False,
        out_type='featmap',
    ),
]


def ready(**kwargs):
    return randomise(build(HaLViT, **kwargs)).eval()


def is_packed(model):
    states = {
        bool(m.packed) for m in model.modules() if isinstance(m, PackedModule)
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
    assert (
        pack_weights(model, torch.float32) == 6
    )  # attention and FFN, 3 layers
    assert_close(predict(model), expected)


@pytest.mark.parametrize('options', OPTIONS)
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_as_good_as_autocast(options, dtype):
    model = ready(**options)
    exact = predict(model)
    allowed = (predict(model, dtype) - exact).norm()
    pack_weights(model, dtype)
    for autocast in (None, dtype):
        error = (predict(model, autocast) - exact).norm()
        assert 0 < error <= 2 * allowed


def test_its_dtype_holds_whatever_autocast_says():
    model = packed_copy(ready(), torch.float16)
    layer = model.layers[0]
    x = torch.randn(1, 16, 32)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        assert layer.attn(x, (4, 4)).dtype == torch.float16
        assert layer.ffn(x).dtype == torch.float16


def packed_copy(model, dtype=torch.bfloat16):
    model = copy.deepcopy(model)
    pack_weights(model, dtype)
    return model


def swap_in_an_average(model):
    """As mmengine's hook does before it validates."""
    for param in model.parameters():
        param.data.copy_(2 * param.data)
    model.eval()


CHANGES = {
    'train': lambda m: m.train(),
    'swap': swap_in_an_average,
    'load_state_dict': lambda m: m.load_state_dict(ready().state_dict()),
    'to': lambda m: m.to(torch.float64).to(torch.float32),
    'unpack_weights': unpack_weights,
}


@pytest.mark.parametrize('change', CHANGES)
def test_dropped_before_it_is_stale(change):
    model = packed_copy(ready())
    assert is_packed(model)
    CHANGES[change](model)
    assert not is_packed(model)
    model.eval()
    fresh = ready()
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(predict(model), predict(fresh))


def test_not_in_the_state_dict():
    plain, model = ready(), packed_copy(ready())
    assert list(model.state_dict()) == list(plain.state_dict())
    assert is_packed(model)


def test_a_copy_is_not_prepared():
    """An EMA copies a model and changes the copy's weights by ``.data``."""
    model = packed_copy(ready())
    for twin in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        ExponentialMovingAverage(model).module,
    ):
        assert not is_packed(twin)
    assert is_packed(model)


def change_in_place(model):
    with torch.no_grad():
        model.layers[0].attn.q.weight.add_(1)


def load_a_part(model):
    part = model.layers[0].attn.q
    part.load_state_dict(randomise(copy.deepcopy(part)).state_dict())


@pytest.mark.parametrize('change', [change_in_place, load_a_part])
def test_changes_of_a_part_are_seen(change):
    model = packed_copy(ready(), torch.float32)
    before = predict(model)
    change(model)
    after = predict(model)
    assert not torch.allclose(before, after)
    unpack_weights(model)
    assert_close(predict(model), after)


@pytest.mark.parametrize('part', ['attn', 'ffn'])
def test_half_of_a_layer(part):
    model = ready()
    expected = predict(model)
    pack_weights(getattr(model.layers[1], part), torch.bfloat16)
    error = (predict(model) - expected).norm()
    assert 0 < error < 0.05 * expected.norm()


def compiled(model):
    torch._dynamo.reset()
    return torch.compile(model, fullgraph=True, backend='eager')


def exported(model):
    return torch.export.export(model, (IMAGE,), strict=False).module()


@torch.no_grad()
@pytest.mark.parametrize('graph', [compiled, exported])
def test_graphs_compute_from_the_weights(graph):
    """They would not see that the packed copy is stale."""
    model = packed_copy(ready())
    fresh = ready()
    fresh.load_state_dict(model.state_dict())
    run = graph(model)
    assert_close(run(IMAGE), fresh(IMAGE))
    for m in (model, fresh) if graph is compiled else ():
        m.layers[0].attn.q.weight.add_(1)
        m.layers[1].ffn.tied.weight.data.mul_(2)
    assert_close(run(IMAGE), fresh(IMAGE))


@torch.no_grad()
@pytest.mark.parametrize('graph', [compiled, exported])
def test_graphs_call_hooks(graph):
    model = packed_copy(ready(), torch.float32)
    before = model(IMAGE)[0]
    model.layers[0].attn.kv.register_forward_hook(lambda m, args, out: 2 * out)
    after = graph(model)(IMAGE)[0]
    assert not torch.allclose(after, before, atol=1e-3)
    assert_close(after, model(IMAGE)[0])


def test_gradients_come_from_the_parameters():
    model = packed_copy(ready())
    expected = ready()
    expected.load_state_dict(model.state_dict())
    pack_weights(model)
    for m in (model, expected):
        m(IMAGE)[0].square().sum().backward()
    for mine, other in zip(model.parameters(), expected.parameters()):
        assert_close(mine.grad, other.grad)


def test_messages():
    with pytest.raises(ValueError, match=r'call eval\(\) first'):
        pack_weights(build(HaLViT).train())
    with pytest.raises(ValueError, match='PlainViT holds no tied layers'):
        pack_weights(build(PlainViT).eval())
    with pytest.raises(ValueError, match='int8 is not floating-point'):
        pack_weights(ready(), torch.int8)
