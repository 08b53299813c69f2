"""Weights packed for inference: same results, never stale ones."""

import copy
import pickle
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from mmengine.model import ExponentialMovingAverage
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from halvit_mm import ops
from halvit_mm.models.backbones import HaLViT, PlainViT, SharedHaLViT
from halvit_mm.models.layers import PackedModule, pack_weights, unpack_weights
from halvit_mm.ops import product_dtype
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


@pytest.fixture
def no_16_bit_units(monkeypatch):
    """A CPU that multiplies 16-bit numbers one by one."""
    monkeypatch.setitem(
        product_dtype.__globals__,
        '_has_native_products',
        lambda device_type, dtype: dtype.itemsize > 2,
    )


class Casts(TorchDispatchMode):
    """Shapes of what is converted to another data type."""

    def __init__(self):
        super().__init__()
        self.shapes = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        source = {'_to_copy': 0, 'copy_': 1}.get(name)
        if source is not None and args[source].dtype != out.dtype:
            self.shapes.add(tuple(out.shape))
        return out


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_no_weight_is_cast_in_a_call(dtype, no_16_bit_units):
    model = ready()
    pack_weights(model, dtype)
    with Casts() as casts:
        predict(model)
    assert (2, 17, 32) in casts.shapes  # the tokens
    weights = {tuple(p.shape) for p in model.parameters()} | {(96, 32), (96,)}
    assert not casts.shapes & weights


@torch.no_grad()
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_numbers_of_16_bits_without_units_for_them(dtype, no_16_bit_units):
    """Bit for bit those of products of what is rounded to 16 bits."""
    layer, x = ready().layers[0], torch.randn(2, 16, 32)
    q, kv, tied = layer.attn.q, layer.attn.kv, layer.ffn.tied

    def rounded(*tensors):
        return torch.cat(tensors).to(dtype)

    qkv = F.linear(
        rounded(x).float(),
        rounded(q.weight, kv.weight, kv.weight.T).float(),
        rounded(q.bias, kv.bias, kv.transposed.bias).float(),
    )
    cast_inside = torch.autocast('cpu', torch.float16)
    with cast_inside:
        o = layer.attn.attend(*qkv.to(dtype).chunk(3, -1), (4, 4))
    out = ops.tied_out(*(rounded(t) for t in (o, q.weight, q.transposed.bias)))
    vectors = (tied.bias, tied.transposed.bias)
    hidden = ops.tied_ffn(*(rounded(t) for t in (x, tied.weight, *vectors)))
    pack_weights(layer, dtype)
    with cast_inside:
        assert_close(layer.attn(x, (4, 4)), out, atol=0, rtol=0)
        assert_close(layer.ffn(x), hidden, atol=0, rtol=0)
    assert layer.attn.packed_dtype == layer.ffn.packed_dtype == dtype


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


@pytest.fixture
def reads(monkeypatch):
    """Module -> how often its weights were looked at for changes."""
    counts, read = Counter(), PackedModule._read_sources

    def counted(module):
        counts.update([module])
        return read(module)

    monkeypatch.setattr(PackedModule, '_read_sources', counted)
    return counts


@pytest.mark.parametrize(('cls', 'modules'), [(HaLViT, 6), (SharedHaLViT, 4)])
def test_weights_are_looked_at_once_a_call(cls, modules, reads):
    """Of the model, or of a layer that is called by itself."""
    model = build(cls).eval()
    assert pack_weights(model) == modules
    layer, x = model.layers[0], torch.randn(2, 16, 32)
    for call, expected in (
        (lambda: model(IMAGE), modules),
        (lambda: layer(x, (4, 4)), 2),
        (lambda: layer.ffn(x), 1),
    ):
        for _ in range(2):
            reads.clear()
            with torch.no_grad():
                call()
            assert len(reads) == reads.total() == expected


@torch.no_grad()
def test_nothing_is_remembered_of_a_call_that_fails():
    model = packed_copy(ready(), torch.float32)

    def fail(*_):
        raise RuntimeError('on purpose')

    handle = model.layers[1].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match='on purpose'):
        model(IMAGE)
    handle.remove()
    change_in_place(model)
    layer, x = model.layers[0], torch.randn(2, 16, 32)
    after = layer(x, (4, 4))
    unpack_weights(model)
    assert_close(layer(x, (4, 4)), after)


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
