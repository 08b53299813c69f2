"""Layers that borrow: references survive what is done to a backbone."""

import copy
import pickle
import re

import pytest
import torch
import torch.distributed as dist
from mmcv.cnn.bricks.transformer import FFN
from mmengine.model import ExponentialMovingAverage
from mmpretrain.models.peft.lora import LoRALinear, LoRAModel
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    CheckpointWrapper,
    apply_activation_checkpointing,
)
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.distributed.tensor import DTensor
from torch.testing import assert_close

from halvit_mm.models import SharedHaLViT
from halvit_mm.models.layers import (
    EncoderLayer,
    SelfAttention,
    TiedFFN,
    TiedLinear,
    TiedSelfAttention,
    pack_weights,
    share,
)
from halvit_mm.models.layers.sharing import owns
from tests.helpers import (
    assert_one_owner,
    build,
    gradients,
    loss_of,
    randomise,
)

from .sharing_vits import ARCH4, IMAGE, owner_of, ready

KINDS = [
    'shared',
    'shared-matrices',
    'shared-learnt',
    'grouped',
    'grouped-layers',
    'grouped-signed',
]


def shared_matrix(model):
    """A weight that several layers use."""
    ffn = owner_of(model).ffn
    return (ffn.tied if hasattr(ffn, 'tied') else ffn.layers[1]).weight


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


@torch.no_grad()
@pytest.mark.parametrize('how', ['eager', 'compiled', 'one layer'])
@pytest.mark.parametrize('kind', KINDS)
def test_what_replaces_a_child_of_the_owner_reaches_every_layer(kind, how):
    def run(m):
        tokens = torch.ones(1, 16, 32)
        return m.layers[1](tokens, (4, 4)) if 'one' in how else m(IMAGE)[0]

    torch._dynamo.reset()
    compiled = torch.compile(run, fullgraph=True, backend='eager')
    run_changed = compiled if how == 'compiled' else run
    model, twin = ready(kind), ready(kind)
    owner, last = owner_of(model), run_changed(model)
    names = [n for n in ('ffn', 'ln1', 'attn.kv', 'attn') if n in owner]
    for name in [*names, *['attn.gain'] * (kind == 'shared-learnt')]:
        child = copy.deepcopy(owner.get_submodule(name))
        owner.set_submodule(name, randomise(child))
        now = run_changed(model)
        assert not torch.allclose(now, last, atol=1e-3), name
        twin.load_state_dict(model.state_dict())
        assert_close(now, run(twin))
        last = now


@pytest.mark.parametrize(
    ('kind', 'path', 'error', 'message'),
    [
        ('shared', 'layers.1.ffn', AttributeError, "borrows 'ffn' from"),
        ('shared', 'layers.1.attn.kv', AttributeError, "borrows 'kv' from"),
        ('grouped', 'layers.3.ffn', AttributeError, "borrows 'ffn' from"),
        ('shared', 'shared', ValueError, "'shared' of SharedHaLViT owns"),
        ('grouped', 'groups', ValueError, "'groups' of GroupedViT owns"),
        ('grouped', 'groups.1', ValueError, "'1' of Groups owns"),
    ],
)
def test_what_would_not_reach_the_layers_is_refused(
    kind, path, error, message
):
    model = ready(kind)
    parent, _, name = path.rpartition('.')
    with pytest.raises(error, match=message):
        setattr(model.get_submodule(parent), name, torch.nn.Identity())
    with pytest.raises(AttributeError, match='wrong'):
        share(model.layers[0], owner_of(model), 'wrong')


def test_an_owner_of_parameters_and_modules():
    """What is borrowed later is added; a copy borrows as well."""
    first, second = TiedLinear(4, 4), TiedLinear(4, 4)
    share(first, second, 'weight')
    share(first, torch.nn.ModuleDict({'map': second}), 'map.transposed')
    twin = pickle.loads(pickle.dumps(torch.nn.ModuleList([first, second])))
    for borrower, owner in ((first, second), twin):
        assert list(borrower.state_dict()) == ['bias']
        assert borrower.weight is owner.weight
        assert borrower.transposed is owner.transposed
        with pytest.raises(AttributeError, match="borrows 'weight' from"):
            borrower.weight = owner.weight
    assert twin[1].weight is not second.weight


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
        assert_all_is_trained(adapted, 4)


def assert_all_is_trained(adapted, num_adapters):
    loss_of(adapted(IMAGE)).backward()
    grads = gradients(adapted)
    assert len(grads) == 2 * num_adapters
    assert all(grad is not None for grad in grads.values())


def test_adapters_are_put_where_a_matrix_is():
    """The owner has a bias of the query's, and no matrix to adapt."""
    config, targets = lora_config('SharedHaLViT'), [dict(type='attn.q')]
    assert_all_is_trained(LoRAModel(config, 2, 2, targets=targets), 4)


@pytest.mark.parametrize('kind', KINDS)
def test_packed_once(kind):
    model = ready(kind)
    with torch.no_grad():
        expected = model(IMAGE)[0]
    if kind in ('grouped', 'grouped-layers'):
        with pytest.raises(ValueError, match='holds no tied layers'):
            pack_weights(model)
        return
    # four attentions, and one FFN where all of it is shared
    is_whole = kind in ('shared', 'shared-learnt')
    num_ffns = 1 if is_whole else 4
    assert pack_weights(model, torch.float32) == 4 + num_ffns
    with torch.no_grad():
        assert_close(model(IMAGE)[0], expected)
        attn = owner_of(model).attn  # borrowed: stale everywhere
        getattr(attn, 'qk', getattr(attn, 'kv', None)).weight.mul_(1.5)
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


def assert_same_step(model, wrapped):
    """A wrapped twin has the outputs and gradients of a model."""
    expected, actual = model(IMAGE), wrapped(IMAGE)
    assert_close(actual, expected)
    loss_of(expected).backward()
    loss_of(actual).backward()
    grads = {without_wrappers(k): g for k, g in gradients(wrapped).items()}
    for name, grad in gradients(model).items():
        other = grads[name]
        if isinstance(other, DTensor):
            other = other.full_tensor()
        assert_close(other.reshape(grad.shape), grad, atol=1e-5, rtol=1e-5)


def without_wrappers(name):
    return re.sub(r'_(fsdp|checkpoint)_wrapped_module\.', '', name)


@pytest.mark.parametrize('per_layer', [False, True])
@pytest.mark.parametrize('kind', KINDS)
def test_fully_sharded(kind, per_layer, process_group):
    """FSDP2 at the root, and each layer by itself below it."""
    model = ready(kind).train()
    twin = copy.deepcopy(model)
    mesh = dist.init_device_mesh('cpu', (1,))
    if per_layer:
        for layer in twin.layers:
            fully_shard(layer, mesh=mesh)
    fully_shard(twin, mesh=mesh)
    assert_same_step(model, twin)


@pytest.mark.parametrize('kind', KINDS)
def test_an_owner_is_not_sharded_alone(kind, process_group):
    mesh = dist.init_device_mesh('cpu', (1,))
    with pytest.raises(ValueError, match='containers'):
        fully_shard(owner_of(ready(kind)), mesh=mesh)


PARTS = {
    'layers': (EncoderLayer,),
    'branches': (FFN, TiedFFN, SelfAttention, TiedSelfAttention),
}


@pytest.mark.filterwarnings('ignore:.*NO_SHARD')
@pytest.mark.parametrize('parts', PARTS)
@pytest.mark.parametrize('kind', KINDS)
def test_first_generation_of_fsdp(kind, parts, process_group):
    model = ready(kind).train()
    wrapped = FullyShardedDataParallel(
        copy.deepcopy(model),
        auto_wrap_policy=ModuleWrapPolicy(PARTS[parts]),
        device_id=torch.device('cpu'),
        use_orig_params=True,
    )
    assert_same_step(model, wrapped)
    assert_close(dict(wrapped.state_dict()), dict(model.state_dict()))


@pytest.mark.parametrize('parts', PARTS)
@pytest.mark.parametrize('kind', KINDS)
def test_checkpointing_by_wrappers(kind, parts):
    model = ready(kind).train()
    wrapped = copy.deepcopy(model)
    apply_activation_checkpointing(
        wrapped, check_fn=lambda m: isinstance(m, PARTS[parts])
    )
    assert any(isinstance(m, CheckpointWrapper) for m in wrapped.modules())
    assert_same_step(model, wrapped)
    assert_close(dict(wrapped.state_dict()), dict(model.state_dict()))


def test_a_matrix_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r'weight of \(8, 4\) cannot serve'):
        share(TiedLinear(4, 7), TiedLinear(4, 8), 'weight')
