"""Layers that borrow: references survive what is done to a backbone."""

import copy
import pickle
import re

import pytest
import torch
import torch.distributed as dist
from mmengine.model import ExponentialMovingAverage
from mmpretrain.models.peft.lora import LoRALinear, LoRAModel
from torch.distributed.fsdp import fully_shard
from torch.testing import assert_close

from halvit_mm.models import GroupedMLPViT, SharedHaLViT
from halvit_mm.models.layers import TiedLinear, pack_weights
from halvit_mm.models.layers.sharing import owns
from tests.helpers import (
    ARCH,
    assert_one_owner,
    build,
    gradients,
    loss_of,
    randomise,
)

IMAGE = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
ARCH4 = dict(ARCH, num_layers=4)
KINDS = {
    'shared': (SharedHaLViT, {}),
    'shared-matrices': (SharedHaLViT, dict(share_vectors=False)),
    'shared-learnt': (SharedHaLViT, dict(gain='learnt')),
    'grouped': (GroupedMLPViT, {}),
}


def ready(kind, **kwargs):
    cls, options = KINDS[kind]
    return randomise(build(cls, arch=ARCH4, **options, **kwargs)).eval()


def shared_matrix(model):
    """A weight that several layers use."""
    if isinstance(model, GroupedMLPViT):
        return model.groups[0].ffn.layers[1].weight
    return model.shared.ffn.tied.weight


def assert_follows_its_owner(model):
    """Every layer that borrows sees what happens to the owner's weight."""
    assert_one_owner(model)
    before = model(IMAGE)[0]
    with torch.no_grad():
        shared_matrix(model).mul_(1.5)
    after = model(IMAGE)[0]
    assert not torch.allclose(before, after, atol=1e-3)
    fresh = copy.deepcopy(model)
    fresh.load_state_dict(model.state_dict())
    assert_close(fresh(IMAGE)[0], after)


COPIES = {
    'deepcopy': copy.deepcopy,
    'pickle': lambda m: pickle.loads(pickle.dumps(m)),
    'double': lambda m: m.double().float(),
    'EMA': lambda m: ExponentialMovingAverage(m, update_buffers=True).module,
}


@pytest.mark.parametrize('change', COPIES)
@pytest.mark.parametrize('kind', KINDS)
def test_copies(kind, change):
    model = ready(kind)
    expected = model(IMAGE)[0]
    twin = COPIES[change](model)
    assert_close(twin(IMAGE)[0], expected)
    assert_follows_its_owner(twin)
    if change != 'double':  # the copy's changes are its own
        assert_close(model(IMAGE)[0], expected, rtol=0, atol=0)


@pytest.mark.parametrize('kind', KINDS)
def test_an_average_of_weights(kind):
    """Averaging moves every weight once, buffers stay what they are."""
    model = ready(kind)
    ema = ExponentialMovingAverage(model, momentum=0.5, update_buffers=True)
    ema.update_parameters(model)
    start = {k: v.clone() for k, v in model.state_dict().items()}
    randomise(model)
    ema.update_parameters(model)
    for name, value in ema.module.state_dict().items():
        mean = (start[name].double() + model.state_dict()[name].double()) / 2
        assert_close(value.double(), mean, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('kind', KINDS)
def test_every_parameter_gets_a_gradient(kind):
    model = ready(kind, with_cp=True).train()
    loss_of(model(IMAGE)).backward()
    assert all(grad is not None for grad in gradients(model).values())


def test_a_copy_of_one_layer_takes_what_it_borrows_along():
    layer = ready('grouped').layers[1]
    twin = copy.deepcopy(layer)
    x = torch.randn(2, 16, 32)
    assert_close(twin(x, (4, 4)), layer(x, (4, 4)))
    assert twin.ffn is not layer.ffn
    assert not owns(twin, 'ffn')
    assert not any('ffn' in name for name, _ in twin.named_parameters())


def test_an_adapter_at_the_owner_reaches_all_borrowers():
    targets = [dict(type=name) for name in ('kv', 'tied', 'attn.q')]
    adapted = LoRAModel(lora_config('SharedHaLViT'), 2, 2, targets=targets)
    model = adapted.module.eval()
    kv = model.shared.attn.kv
    assert isinstance(kv, LoRALinear)
    plain = build(SharedHaLViT, arch=ARCH4).eval()
    names = plain.state_dict().keys()
    own = dict(model.named_parameters(), **dict(model.named_buffers()))
    plain.load_state_dict(
        {n: own[inside(n) if inside(n) in own else n] for n in names}
    )
    expected = plain(IMAGE)[0]
    assert_close(model(IMAGE)[0], expected)  # it starts at zero
    torch.nn.init.ones_(kv.lora_up.weight)
    assert not torch.allclose(model(IMAGE)[0], expected)
    assert all(layer.attn.kv is kv for layer in model.layers)


def lora_config(name, **kwargs):
    options = dict(arch=ARCH4, img_size=32, patch_size=8)
    return dict(type=f'halvit_mm.{name}', **options, **kwargs)


def inside(name):
    """Name of a tied layer's weight -> its name below an adapter."""
    pattern = r'\b(kv|tied|attn\.q)\.(?!original)'
    return re.sub(pattern, r'\1.original_layer.', name)


@pytest.mark.parametrize('name', ['kv', 'attn.q'])
def test_an_adapter_where_the_matrix_alone_is_shared(name):
    config = lora_config('SharedHaLViT', share_vectors=False)
    adapted = LoRAModel(config, 2, 2, targets=[dict(type=name)])
    if name == 'kv':
        with pytest.raises(ValueError, match=r'shared\.attn\.kv gives its'):
            adapted(IMAGE)
    else:
        loss_of(adapted(IMAGE)).backward()
        layers = adapted.module.layers
        assert all(m.attn.q.lora_up.weight.grad is not None for m in layers)


@pytest.mark.parametrize('kind', KINDS)
def test_packed_once(kind):
    model = ready(kind)
    with torch.no_grad():
        expected = model(IMAGE)[0]
    if kind == 'grouped':
        with pytest.raises(ValueError, match='holds no tied layers'):
            pack_weights(model)
        return
    # four attentions, and one FFN where all of it is shared
    num_ffns = 4 if kind == 'shared-matrices' else 1
    assert pack_weights(model, torch.float32) == 4 + num_ffns
    with torch.no_grad():
        assert_close(model(IMAGE)[0], expected)
        model.shared.attn.kv.weight.mul_(1.5)  # borrowed: stale everywhere
        changed = model(IMAGE)[0]
        assert not torch.allclose(changed, expected, atol=1e-3)
        assert_close(copy.deepcopy(model)(IMAGE)[0], changed)


@pytest.fixture
def process_group(tmp_path):
    dist.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1
    )
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize('per_layer', [False, True])
@pytest.mark.parametrize('kind', KINDS)
def test_fully_sharded(kind, per_layer, process_group):
    """FSDP2 at the root, and each layer by itself below it."""
    model = ready(kind).train()
    expected = model(IMAGE)
    loss_of(expected).backward()
    grads = gradients(model)
    twin = copy.deepcopy(model)
    twin.zero_grad()
    mesh = dist.init_device_mesh('cpu', (1,))
    if per_layer:
        for layer in twin.layers:
            fully_shard(layer, mesh=mesh)
    fully_shard(twin, mesh=mesh)
    outs = twin(IMAGE)
    assert_close(outs, expected)
    loss_of(outs).backward()
    for name, grad in gradients(twin).items():
        assert_close(grad.full_tensor(), grads[name])


def test_a_matrix_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r'\(8, 4\) cannot serve'):
        TiedLinear(4, 7).share_matrix(TiedLinear(4, 8))
