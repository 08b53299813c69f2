"""What people attach to layers works on tied ones, or is refused."""

import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from mmpretrain.models.peft import LoRAModel
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import (
    parametrizations,
    parametrize,
    prune,
    spectral_norm,
    weight_norm,
)
from torch.testing import assert_close

import halvit_mm.models
from halvit_mm import ops
from halvit_mm.models import (
    GroupedViT,
    HaLViT,
    SharedHaLViT,
    pack_weights,
)
from halvit_mm.models.layers import TiedLinear, tied_linear
from tests.helpers import ARCH, build, loss_of, randomise

IMAGE = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
LINEARS = ('attn.q', 'attn.kv', 'ffn.tied')
NORMS = ('ln1', 'ln2')


def ready(**kwargs):
    return randomise(build(HaLViT, **kwargs)).eval()


def untied_output(model, weights):
    """Output of a fresh model with other weights in its first layer."""
    fresh = build(HaLViT).eval()
    state = model.state_dict()
    names = fresh.state_dict().keys()
    fresh.load_state_dict(
        {**{n: state[n] for n in names if n in state}, **weights}
    )
    return fresh(IMAGE)[0]


@pytest.mark.parametrize('name', [*LINEARS, *NORMS])
def test_hooks_are_called_once_and_may_change_the_output(name):
    model = ready()
    expected = model(IMAGE)[0]
    module = model.layers[0].get_submodule(name)
    calls = Counter()
    handles = [
        module.register_forward_pre_hook(lambda *_: calls.update(pre=1)),
        module.register_forward_hook(lambda *_: calls.update(post=1)),
        module.register_full_backward_hook(lambda *_: calls.update(back=1)),
    ]
    actual = model(IMAGE)[0]
    assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    loss_of([actual]).backward()
    assert calls == dict(pre=1, post=1, back=1)
    module.register_forward_hook(lambda m, args, out: 2 * out)
    assert not torch.allclose(model(IMAGE)[0], expected, atol=1e-3)
    for handle in handles:
        handle.remove()


#: Module -> its calls by one layer: what operators compute besides.
INNER = {
    'attn.q.transposed': 1,
    'attn.kv.transposed': 1,
    'ffn.tied.transposed': 1,
    'ffn.drop': 2,
    'drop_path': 2,
}


@pytest.mark.parametrize('name', INNER)
def test_hooks_of_what_is_inside_an_operator(name):
    model = ready()
    expected = model(IMAGE)[0]
    module = model.layers[0].get_submodule(name)
    calls = []
    module.register_forward_hook(lambda m, args, out: calls.append(out))
    assert_close(model(IMAGE)[0], expected, atol=1e-5, rtol=1e-5)
    assert len(calls) == INNER[name]
    module.register_forward_hook(lambda m, args, out: 2 * out)
    assert not torch.allclose(model(IMAGE)[0], expected, atol=1e-3)


@pytest.mark.parametrize('packed', [False, True])
def test_hooks_of_all_modules(packed):
    model = ready()
    if packed:
        pack_weights(model, torch.float32)
    called = Counter()
    with torch.no_grad():
        expected = model(IMAGE)[0]
        with register_module_forward_hook(lambda m, *_: called.update([m])):
            assert_close(model(IMAGE)[0], expected, atol=1e-5, rtol=1e-5)
        assert bool(model.layers[0].attn.packed_weights) == packed
    layer = model.layers[0]
    for name in (*LINEARS, *NORMS, *INNER):
        assert called[layer.get_submodule(name)] == INNER.get(name, 1), name


@pytest.mark.parametrize('name', LINEARS)
def test_a_pruned_bias_of_the_transpose(name):
    """It is computed anew at each step, as the mask says."""
    model = ready().train()
    part = model.layers[0].get_submodule(name).transposed
    prune.random_unstructured(part, 'bias', amount=0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        loss_of(model(IMAGE)).backward()
        optimizer.step()
    kept = part.bias_mask.bool()
    assert kept.float().mean() == 0.5
    grad = part.bias_orig.grad
    assert not grad[~kept].any()
    assert grad[kept].abs().min() > 0
    model.eval()
    bias = {f'layers.0.{name}.transposed.bias': part.bias_orig * kept}
    assert_close(model(IMAGE)[0], untied_output(model, bias))


@pytest.mark.parametrize('name', LINEARS)
@pytest.mark.parametrize('method', ['prune', 'weight_norm', 'spectral_norm'])
def test_weights_that_a_hook_computes(name, method):
    """Both uses of the matrix read what the hook leaves."""
    model = ready()
    full = f'layers.0.{name}'
    linear = model.get_submodule(full)
    if method == 'prune':
        prune.l1_unstructured(linear, 'weight', amount=0.5)
        source, computed = 'weight_orig', None
    elif method == 'weight_norm':
        weight_norm(linear)
        source = 'weight_g'
    else:
        spectral_norm(linear)
        source = 'weight_orig'
    with torch.no_grad():
        getattr(linear, source).mul_(1.7)  # what a step would do
        actual = model(IMAGE)[0]
        computed = linear.weight.detach().clone()
        assert_close(
            actual,
            untied_output(
                model, {f'{full}.weight': computed, **biases(model, full)}
            ),
            atol=1e-4,
            rtol=1e-4,
        )
        if method == 'prune':
            assert (computed == 0).float().mean() == pytest.approx(
                0.5, abs=0.01
            )
    loss_of(model(IMAGE)).backward()
    assert getattr(linear, source).grad.abs().sum() > 0


def biases(model, name):
    linear = model.get_submodule(name)
    return {
        f'{name}.bias': linear.bias,
        f'{name}.transposed.bias': linear.transposed_bias,
    }


class Doubled(nn.Module):
    calls = 0

    def forward(self, weight):
        Doubled.calls += 1
        return 2 * weight


@pytest.mark.parametrize('name', LINEARS)
def test_parametrized_weights_stay_on_the_operators(name, monkeypatch):
    model = ready()
    full = f'layers.0.{name}'
    linear = model.get_submodule(full)
    doubled = {f'{full}.weight': 2 * linear.weight, **biases(model, full)}
    expected = untied_output(model, doubled)
    parametrize.register_parametrization(linear, 'weight', Doubled())
    plain = []
    monkeypatch.setattr(
        TiedLinear, 'forward_second', lambda *a: plain.append(a)
    )
    Doubled.calls = 0
    assert_close(model(IMAGE)[0], expected, atol=1e-5, rtol=1e-5)
    assert Doubled.calls == 1  # once a call: it may be a product
    assert not plain


def test_a_norm_of_weights_by_parametrization():
    model = ready()
    linear = model.layers[0].ffn.tied
    expected = model(IMAGE)[0]
    parametrizations.weight_norm(linear)
    assert_close(model(IMAGE)[0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('attn', ['paper', 'like'])
def test_lora(attn):
    """An adapter serves the first use; the second is the frozen matrix."""
    config = dict(
        type='halvit_mm.HaLViT',
        arch=ARCH,
        img_size=32,
        patch_size=8,
        attn=attn,
    )
    own = LINEARS if attn == 'paper' else ('attn.qk', 'attn.vo', 'ffn.tied')
    targets = [dict(type=name) for name in own]
    model = LoRAModel(config, alpha=2, rank=2, targets=targets).eval()
    start = model(IMAGE)[0]
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 3 * len(LINEARS)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(2):  # the second factor starts at zero
        optimizer.zero_grad()
        loss_of(model(IMAGE)).backward()
        optimizer.step()
    for name, param in model.named_parameters():
        if param.requires_grad:
            assert param.grad.abs().sum() > 0, name
    assert not torch.allclose(model(IMAGE)[0], start)


def test_a_layer_that_is_replaced_by_another_is_refused():
    model = ready()
    model.layers[1].attn.kv = nn.Linear(32, 32)
    with pytest.raises(ValueError, match='Linear has replaced a TiedLinear'):
        model(IMAGE)


def test_packing_names_the_layer_that_it_would_bypass():
    model = ready()
    prune.l1_unstructured(model.layers[1].attn.kv, 'weight', amount=0.5)
    with pytest.raises(ValueError, match=r'layers\.1\.attn has parts that'):
        pack_weights(model)
    model = ready()
    tied = model.layers[2].ffn.tied
    parametrize.register_parametrization(tied, 'weight', Doubled())
    with pytest.raises(ValueError, match=r'layers\.2\.ffn has a param'):
        pack_weights(model)


def test_a_hook_that_comes_after_packing_is_called():
    model = ready()
    with torch.no_grad():
        expected = model(IMAGE)[0]
        pack_weights(model, torch.float32)
        seen = []
        linear = model.layers[0].attn.kv
        linear.register_forward_hook(lambda *_: seen.append(1))
        assert_close(model(IMAGE)[0], expected, atol=1e-5, rtol=1e-5)
    assert seen == [1]


def test_quantisation_says_that_tied_layers_stay(caplog):
    tied_linear._warn_of_quantisation.cache_clear()
    model = ready()
    expected = model(IMAGE)[0]
    torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, inplace=True)
    told = [r.message for r in caplog.records if 'floating point' in r.message]
    assert len(told) == 1
    assert torch.equal(model(IMAGE)[0], expected)


@pytest.mark.parametrize(
    ('cls', 'expected'),
    [(HaLViT, 9), (SharedHaLViT, 9), (GroupedViT, 4)],
)
def test_functions_that_an_image_enters(cls, expected):
    """In inference, of halvit_mm.models and a layer: borrowing adds none."""
    arch = dict(ARCH, num_layers=4)
    model = build(cls, arch=arch).eval()
    folder = str(Path(halvit_mm.models.__file__).parent)
    entered = Counter()

    def count(frame, event, arg):
        if event == 'call' and frame.f_code.co_filename.startswith(folder):
            entered[frame.f_code.co_name] += 1

    totals = []
    with torch.no_grad(), ops.use('fallback'):
        model(IMAGE)
        for num_layers in (4, 2):
            model.layers = model.layers[:num_layers]
            entered.clear()
            sys.setprofile(count)
            model(IMAGE)
            sys.setprofile(None)
            totals.append(entered.total())
    assert totals[0] - totals[1] <= 2 * expected, entered
