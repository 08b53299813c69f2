"""16-bit: what is cast, how often, how well, and what is kept."""

import pytest
import torch
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from halvit_mm import ops
from halvit_mm.ops import products, reference
from halvit_mm.ops.register import FALLBACKS

B, T, D, F = 2, 50, 32, 128
HALF = (torch.bfloat16, torch.float16)


def rand(*shape):
    return torch.randn(*shape, requires_grad=True)


def native(monkeypatch, supported):
    """Let the CPU have 16-bit products, or not."""
    monkeypatch.setattr(
        products, '_has_native_products', lambda *args: supported
    )


@pytest.mark.parametrize('dtype', HALF)
@pytest.mark.parametrize('supported', [True, False])
def test_autocast_decides_on_dtypes(dtype, supported, monkeypatch):
    native(monkeypatch, supported)
    x, delta, w, bias = rand(B, T, D), rand(B, T, D), rand(D), rand(D)
    wq, wkv, wf = rand(D, D), rand(D, D), rand(F, D)
    with torch.autocast('cpu', dtype):
        total, y = ops.add_layer_norm(x, delta.to(dtype), w, bias, 1e-6)
        assert (total.dtype, y.dtype) == (torch.float32, dtype)
        *qkv, packed = ops.tied_qkv(y, wq, wkv, bias, bias, bias)
        assert {t.dtype for t in (*qkv, packed)} == {dtype}
        assert not packed.requires_grad
        out = ops.tied_out(qkv[2], wq, bias, packed=packed)
        last = ops.tied_ffn(out, wf, None, bias)
        assert {out.dtype, last.dtype} == {dtype}
    loss = last.float().sum() + sum(t.float().sum() for t in qkv)
    (loss + total.sum()).backward()
    for t in (x, delta, w, bias, wq, wkv, wf):
        assert t.grad.dtype == torch.float32
        assert t.grad.abs().sum() > 0


def test_autocast_leaves_float64_alone():
    x, wf = rand(B, T, D).double(), rand(F, D).double()
    with torch.autocast('cpu', torch.bfloat16):
        assert ops.tied_ffn(x, wf).dtype == torch.float64


@pytest.mark.parametrize('dtype', HALF)
def test_a_model_in_16_bits(dtype):
    x, wf = rand(B, T, D), rand(F, D)
    x, wf = (t.detach().to(dtype).requires_grad_() for t in (x, wf))
    y = ops.tied_ffn(x, wf)
    y.sum().backward()
    assert {y.dtype, x.grad.dtype, wf.grad.dtype} == {dtype}


class Casts(TorchDispatchMode):
    """Counts conversions to a dtype, by shape."""

    def __init__(self, dtype):
        super().__init__()
        self.dtype = dtype
        self.shapes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        source = args[1] if name == 'copy_' else args[0] if args else None
        if name in ('_to_copy', 'copy_') and source.dtype != self.dtype:
            if out.dtype == self.dtype:
                self.shapes.append(tuple(out.shape))
        return out


def test_one_cast_per_norm_and_per_weight(monkeypatch):
    """What a layer's forward pass casts, operator by operator."""
    native(monkeypatch, True)
    half = torch.bfloat16
    x, w, bias = (rand(*s).detach() for s in ((B, T, D), (D,), (D,)))
    wq, wkv, wf, b1 = (
        rand(*s).detach() for s in ((D, D), (D, D), (F, D), (F,))
    )
    call = FALLBACKS
    with Casts(half) as casts:
        _, y, _, _ = call['add_layer_norm'](x, None, None, w, bias, 1e-6, half)
        *_, v, packed = call['tied_qkv'](y, wq, wkv, bias, bias, bias)
        out = call['tied_out'](v, wq, packed, bias)
        _, y, _, _ = call['add_layer_norm'](x, out, None, w, bias, 1e-6, half)
        call['tied_ffn'](y, wf, b1, bias, False, 'none')
    matrices = [s for s in casts.shapes if len(s) > 1]
    norms = [(B, T, D)] * 2
    assert sorted(matrices) == sorted([*norms, (D, D), (D, D), (F, D)])


@pytest.mark.parametrize('dtype', HALF)
@pytest.mark.parametrize('supported', [True, False])
@pytest.mark.parametrize('approximate', ['none', 'tanh'])
def test_error_is_at_most_twice_pytorchs(
    dtype, supported, approximate, monkeypatch
):
    """Both against float64, values and gradients of a layer's products."""
    native(monkeypatch, supported)
    x = rand(B, T, D)
    weights = [torch.randn(D, D) / D**0.5 for _ in range(2)]
    weights += [torch.randn(F, D) / D**0.5]
    weights = [w.requires_grad_() for w in weights]

    def run(module, x, wq, wkv, wf):
        q, k, v = module.tied_qkv(x, wq, wkv)[:3]
        y = module.tied_ffn(q + k + v, wf, approximate=approximate)
        y = module.tied_out(y, wq)
        loss = y.to(torch.float64).square().sum()
        inputs = (x, wq, wkv, wf)
        return (y, *torch.autograd.grad(loss, inputs))

    exact = run(reference, *(t.double() for t in (x, *weights)))
    with torch.autocast('cpu', dtype):
        theirs = run(reference, x, *weights)
        ours = run(ops, x, *weights)
    for t, mine, other in zip(exact, ours, theirs):
        error, allowed = ((a.double() - t).norm() for a in (mine, other))
        assert error <= 2 * allowed
        assert error <= 0.1 * t.norm()


def test_wide_products_equal_native_ones(monkeypatch):
    x, w = rand(B, T, D).bfloat16(), rand(F, D).bfloat16()
    results = []
    for supported in (True, False):
        native(monkeypatch, supported)
        results.append(ops.tied_ffn(x, w))
    assert_close(
        *results, rtol=2e-2, atol=2e-2 * float(results[0].abs().max())
    )
