"""What the proof measures, against something written independently."""

from collections import Counter

import pytest
import torch
from proof.kernels import HIDDEN, NAIVE, OURS, bytes_per_element, kernel_bytes
from proof.layer import EPS, TiedLayer
from proof.measure import VARIANTS, LayerStep, difference, profiled
from proof.operators import operator_calls, operator_names
from torch.testing import assert_close
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from halvit_mm import ops
from halvit_mm.models.layers import TiedEncoderLayer

B, T, D = 2, 160, 64
#: Products and attention; their inputs and results are not counted.
PRODUCTS = ('addmm', 'mm', 'scaled_dot_product', 'tied_')


class CountBytes(TorchDispatchMode):
    """Bytes per token and channel of every operator's activations."""

    def __init__(self):
        super().__init__()
        self.moved = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        leaves = pytree.tree_leaves((args, kwargs, out))
        tensors = [
            t
            for t in leaves
            # all weights are smaller
            if isinstance(t, torch.Tensor) and t.numel() >= B * T * D
        ]
        if not func.is_view:
            size = sum(t.numel() * t.element_size() for t in tensors)
            self.moved[func.overloadpacket.__name__] += size / (B * T * D)
        return out


def moved(choice):
    layer, x = TiedLayer(D), torch.randn(B, T, D, requires_grad=True)
    grad = torch.randn(B, T, D)
    with ops.use(choice), CountBytes() as count:
        with torch.autocast('cpu', torch.bfloat16):
            y = layer(x)
        y.backward(grad)
    return Counter(
        {
            name: size
            for name, size in count.moved.items()
            if size and not any(p in name for p in PRODUCTS)
        }
    )


def test_the_naive_bytes_are_those_of_its_operators():
    counted = moved('plain')
    # One operator, on a GPU two kernels: the second reads dy and x again.
    gradients = 2 * (4 + 4)
    assert counted.total() + gradients == bytes_per_element(NAIVE) == 242


def test_our_bytes_are_those_of_the_operators():
    counted = moved('fallback')
    inside = sum(row.moved for row in OURS if HIDDEN in row.reads)
    # of q, k, v, the output and the FFN; dx is added up in two more reads
    inside += 5 * 2 + 2 * 2
    assert counted == Counter(
        add_layer_norm=6 + 12,
        add_layer_norm_backward=16 + 10,
        add=10 + 12,
        _to_copy=6,
    )
    assert counted.total() + inside == bytes_per_element(OURS) == 134


def test_bytes_of_each_kernel():
    """Per token and channel: a norm without and with a sum, the GELU."""
    assert kernel_bytes(10, 8) == {
        'add_layer_norm_kernel': 80 * (6 + 12),
        'activation_kernel': 80 * 16,
        'activation_backward_kernel': 80 * 32,
        'add_layer_norm_backward_kernel': 80 * (16 + 10),
        'cast_kernel': (8 * 8 + 8 * 8 + 32 * 8) * (4 + 2),
    }


def test_the_layer_is_halvits():
    layer = TiedLayer(D)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(std=0.1)
    theirs = TiedEncoderLayer(
        D, 1, 4 * D, norm_cfg=dict(type='LN', eps=EPS), act='gelu'
    )
    attn, ffn = theirs.attn, theirs.ffn
    pairs = {
        theirs.ln1.weight: layer.norm1.weight,
        theirs.ln1.bias: layer.norm1.bias,
        theirs.ln2.weight: layer.norm2.weight,
        theirs.ln2.bias: layer.norm2.bias,
        attn.q.weight: layer.wq,
        attn.q.bias: layer.bq,
        attn.q.transposed_bias: layer.bo,
        attn.kv.weight: layer.wkv,
        attn.kv.bias: layer.bk,
        attn.kv.transposed_bias: layer.bv,
        ffn.tied.weight: layer.w,
        ffn.tied.bias: layer.b1,
        ffn.tied.transposed_bias: layer.b2,
    }
    assert len(pairs) == len(list(theirs.parameters()))
    with torch.no_grad():
        for their, ours in pairs.items():
            their.copy_(ours)
    x = torch.randn(2, 6, D)
    outs = layer(x), theirs(x, (2, 3))
    assert_close(*outs)
    for out in outs:
        out.square().sum().backward()
    for their, ours in pairs.items():
        assert_close(ours.grad, their.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name', VARIANTS)
def test_every_variant_computes_the_same(name):
    torch.compiler.reset()
    expected, step = (LayerStep(n, D, 2, 5, 'cpu') for n in ('naive', name))
    expected()
    step()
    assert difference(step, expected) < 0.02
    step.x.grad.mul_(2)
    assert difference(step, expected) > 0.5


def test_profiled_kernels():
    step = LayerStep('ours', D, 1, 5, 'cpu')
    step()
    rows = {row['name']: row for row in profiled(step, 'cpu')}
    assert rows['halvit::add_layer_norm']['count'] == 2
    assert rows['halvit::tied_ffn_backward']['us'] > 0
    times = [row['us'] for row in rows.values()]
    assert times == sorted(times, reverse=True)


def test_opcheck_has_every_operator():
    calls = operator_calls('cpu', torch.bfloat16)
    assert sorted(calls) == operator_names()
    for name, variants in calls.items():
        for args in variants:
            needs = [getattr(a, 'requires_grad', False) for a in args]
            differentiable = f'{name}_backward' in calls
            assert any(needs) == differentiable, name
    assert None in calls['tied_out'][1] and None not in calls['tied_out'][0]
