"""What serves a backbone serves every tying: one body, all of them."""

import copy

import pytest
import torch
from torch.export import Dim
from torch.testing import assert_close

from halvit_mm.apis.model_info import count_parameters
from halvit_mm.compression import FiPSConfig, convert, prepare
from halvit_mm.models import PlainViT, pack_weights
from halvit_mm.models.layers import PackedModule, TiedLinear
from tests.helpers import (
    DETECTION,
    assert_one_owner,
    build,
    gradients,
    loss_of,
    num_params,
)
from tests.tyings import ARCH4, TYINGS, tied

IMAGE = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
WINDOWS = dict(**DETECTION, window_size=3, window_block_indexes=range(4))
KEY_BIASES = ('kv.bias', 'qk.transposed.bias', 'qkv.bias')


def parts(model, cls):
    return [m for m in model.modules() if isinstance(m, cls)]


def is_stored_once_and_counted_at_every_use(name):
    model = tied(name)
    assert_one_owner(model)
    stored, effective = count_parameters(model)
    assert stored == num_params(model)
    assert effective == num_params(build(PlainViT, arch=ARCH4))


def is_initialised_by_a_config(name):
    """The square matrices by the hosts' initialiser, and biases at zero."""
    init = dict(type='TruncNormal', layer='Linear', std=0.02)
    cls, options = TYINGS[name]
    model = build(cls, arch=ARCH4, **options, init_cfg=init)
    model.init_weights()
    attention = {k: v for k, v in model.named_parameters() if '.attn.' in k}
    assert attention
    for key, tensor in attention.items():
        if tensor.ndim == 2:
            assert tensor.std().item() == pytest.approx(0.02, rel=0.1), key
        else:
            assert not tensor.any(), key


def is_copied_and_loaded(name):
    model, other = tied(name), tied(name)
    other.load_state_dict(model.state_dict())
    expected = model(IMAGE)
    for twin in (other, copy.deepcopy(model)):
        assert_close(twin(IMAGE), expected, rtol=0, atol=0)


def trains_every_parameter(name):
    model = tied(name, with_cp=True, drop_path_rate=0.1).train()
    loss_of(model(IMAGE)).backward()
    for key, grad in gradients(model).items():
        if not key.endswith(KEY_BIASES):  # which softmax ignores
            assert grad.abs().max() > 1e-6, key


@torch.no_grad()
def is_packed(name):
    for options in ({}, WINDOWS):
        model = tied(name, **options)
        packed = copy.deepcopy(model)
        if not parts(model, PackedModule):
            return
        pack_weights(packed, torch.float32)
        assert_close(packed(IMAGE), model(IMAGE))
        for module in parts(packed, PackedModule):
            assert module.packed_weights
        for linear in parts(packed, TiedLinear):  # changes are seen
            linear.weight.mul_(1.5)
        model.load_state_dict(packed.state_dict())
        assert_close(packed(IMAGE), model(IMAGE))


@torch.no_grad()
def is_exported(name):
    model = tied(name, **WINDOWS)
    sides = {i: 8 * Dim(f'side{i}', min=1, max=64) for i in (2, 3)}
    program = torch.export.export(
        model,
        (torch.randn(2, 3, 48, 64),),
        dynamic_shapes=({0: Dim('batch'), **sides},),
        strict=False,
    )
    assert not [n for n in program.graph.nodes if 'halvit' in str(n.target)]
    image = torch.randn(3, 3, 40, 32)
    actual, expected = program.module()(image), model(image)
    assert_close(actual, expected, atol=1e-4, rtol=1e-4)


def is_compiled(name):
    model = tied(name)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend='eager')
    assert_close(compiled(IMAGE), model(IMAGE))


def calls_hooks_of_both_uses(name):
    model = tied(name)
    expected = model(IMAGE)[0]
    owners = {model.get_submodule(p) for p in getattr(model, 'matrices', ())}
    for linear in parts(model, TiedLinear):
        if linear in owners:
            continue  # they are never called
        for module in (linear, linear.transposed):
            calls = []
            count = module.register_forward_hook(
                lambda *call, calls=calls: calls.append(call)
            )
            assert_close(model(IMAGE)[0], expected, atol=1e-4, rtol=1e-4)
            assert calls
            double = module.register_forward_hook(lambda m, x, out: 2 * out)
            assert not torch.allclose(model(IMAGE)[0], expected, atol=1e-4)
            count.remove()
            double.remove()


def is_factorised(name):
    """FiPS, full rank and nothing pruned: the model itself."""
    model = tied(name)
    expected = model(IMAGE)[-1]
    square = {r'.*\.attn\.(q|kv|qk|vo)': 'in', r'.*\.proj': 'out'}
    shared = getattr(model, 'shares', ())
    groups = [
        rf'{"groups" if part in shared else "layers"}\.\d\.{part}'
        for part in ('attn', 'ffn')
    ]
    config = FiPSConfig(groups, sparsity=0.0, square=square, rank=64)
    compression = prepare(model, config)
    assert max(compression.svd_errors) < 1e-6
    for converts in (False, True):
        if converts:
            convert(model)
        assert_close(model(IMAGE)[-1], expected, rtol=1e-4, atol=1e-4)


def has_depths(name):
    """For layer-wise learning rates."""
    model = tied(name)
    depths = [model.get_layer_depth(n) for n, _ in model.named_parameters()]
    assert {depth for depth, _ in depths} == set(range(len(model.layers) + 2))
    assert {count for _, count in depths} == {len(model.layers) + 2}


USES = [
    is_stored_once_and_counted_at_every_use,
    is_initialised_by_a_config,
    is_copied_and_loaded,
    trains_every_parameter,
    is_packed,
    is_exported,
    is_compiled,
    calls_hooks_of_both_uses,
    is_factorised,
    has_depths,
]


@pytest.mark.parametrize('use', USES, ids=lambda use: use.__name__)
@pytest.mark.parametrize('name', TYINGS)
def test_tying(name, use):
    use(name)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_like_keeps_as_much_as_the_paper_for_the_backward_pass(dtype):
    kept = []
    for name in ('signed', 'like-signed'):
        model, saved = tied(name).train(), {}
        weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

        def keep(tensor, saved=saved):
            saved[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t)
        with torch.autocast('cpu', dtype, enabled=dtype != torch.float32):
            with hooks:
                outs = model(IMAGE)
        own = (t for at, t in saved.items() if at not in weights)
        kept.append(sum(t.untyped_storage().nbytes() for t in own))
        del outs
    assert kept[0] == kept[1]
