"""The compiled library on a GPU. Without one, or unbuilt, this is skipped."""

import logging

import pytest
import torch
from torch.testing import assert_close

from halvit_mm import ops
from halvit_mm.ops import choice, reference

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(
        ops.backend('cuda') != 'cuda', reason=f'no GPU: {ops.backend_reason()}'
    ),
]
D, F, EPS = 384, 1536, 1e-6
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
TOKENS = [(1, 1), (3, 197), (2, 4200)]


def rand(*shape, scale=1.0):
    return (scale * torch.randn(*shape, device='cuda')).requires_grad_()


def norm(module, x, delta, weight, bias, scale):
    total, y = module.add_layer_norm(x, delta, weight, bias, EPS, scale)
    return total, y.to(ops.compute_dtype(x))  # autocast leaves it in float32


def qkv(module, x, wq, wkv, bq, bk, bv):
    return module.tied_qkv(x, wq, wkv, bq, bk, bv)[:3]


def out(module, x, wq, bias):
    return module.tied_out(x, wq, bias)


def ffn(approximate, signed=False):
    def call(module, x, w, b1, b2):
        return module.tied_ffn(x, w, b1, b2, approximate, signed)

    return call


def case(name, batch, tokens):
    """A function of (module, *inputs), and its inputs."""
    x, small = rand(batch, tokens, D), D**-0.5
    if name == 'norm':
        scale = torch.tensor([0.0, 1.25, 2.0], device='cuda')[:batch]
        return norm, (x, rand(*x.shape), rand(D), rand(D), scale)
    square = [rand(D, D, scale=small) for _ in range(2)]
    if name == 'qkv':
        return qkv, (x, *square, rand(D), rand(D), rand(D))
    if name == 'out':
        return out, (x, square[0], rand(D))
    w, b1, b2 = rand(F, D, scale=small), rand(F), rand(D)
    approximate, _, signed = name.partition('-')
    return ffn(approximate, bool(signed)), (x, w, b1, b2)


def run(function, module, inputs):
    """Outputs and gradients."""
    outs = function(module, *inputs)
    outs = outs if isinstance(outs, tuple) else (outs,)
    loss = sum(o.double().pow(2).sum() / max(1, o.numel()) for o in outs)
    tensors = [t for t in inputs if t.requires_grad]
    return (*outs, *torch.autograd.grad(loss, tensors))


def assert_as_good_as_pytorch(function, inputs, dtype):
    """Error at most twice that of PyTorch in the same dtype."""
    exact_inputs = [
        t.detach().double().requires_grad_(t.requires_grad) for t in inputs
    ]
    exact = run(function, reference, exact_inputs)
    with torch.autocast('cuda', dtype, enabled=dtype != torch.float32):
        theirs = run(function, reference, inputs)
        ours = run(function, ops, inputs)
    for t, mine, other in zip(exact, ours, theirs):
        error, allowed = ((a.double() - t).norm() for a in (mine, other))
        assert error <= 2 * allowed + 1e-6 * t.norm()


NAMES = ['norm', 'qkv', 'out', 'none', 'tanh', 'none-signed', 'tanh-signed']


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize(('batch', 'tokens'), TOKENS)
@pytest.mark.parametrize('name', NAMES)
def test_error(name, batch, tokens, dtype):
    assert_as_good_as_pytorch(*case(name, batch, tokens), dtype)


@pytest.mark.parametrize('name', NAMES)
def test_views_that_are_not_contiguous_or_aligned(name):
    function, inputs = case(name, 2, 5)
    expected = run(function, ops, inputs)
    x = inputs[0].detach()
    padded = torch.zeros(2, 5, D + 1, device='cuda')
    padded[..., 1:] = x
    strided = padded[..., 1:].requires_grad_()
    assert_close(run(function, ops, (strided, *inputs[1:])), expected)


@pytest.mark.parametrize('name', NAMES)
def test_another_stream(name):
    function, inputs = case(name, 2, 197)
    expected = run(function, ops, inputs)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)  # the default stream would be first
        actual = run(function, ops, inputs)
    stream.synchronize()
    assert_close(actual, expected)


@pytest.mark.parametrize('name', NAMES)
def test_replay_of_a_graph(name):
    function, inputs = case(name, 2, 197)
    run(function, ops, inputs)  # cuBLAS chooses outside of the graph
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        actual = run(function, ops, inputs)
    with torch.no_grad():
        inputs[0].copy_(torch.randn_like(inputs[0]))
    graph.replay()
    assert_close(actual, run(function, ops, inputs))


@pytest.mark.parametrize('shape', [(0, 3), (2, 0)])
@pytest.mark.parametrize('name', NAMES)
def test_nothing_to_do(name, shape):
    function, inputs = case(name, 2, 3)
    inputs = [
        t.new_empty(*shape, D).requires_grad_() if t.dim() == 3 else t
        for t in inputs
    ]
    if name == 'norm':
        inputs[-1] = torch.ones(shape[0], device='cuda')
    for result in run(function, ops, inputs):  # no outputs, zero gradients
        assert not result.any()


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('width', [8, 264, 1032, 8192])
def test_small_shapes(width, dtype):
    """Every operator once, at widths that end a warp's or a block's work."""
    x = torch.randn(2, 3, width, device='cuda', dtype=dtype)
    wq, wkv = (rand(width, width, scale=width**-0.5) for _ in range(2))
    w, bias = rand(16, width, scale=width**-0.5), rand(width)
    scale = torch.tensor([0.0, 2.0], device='cuda')
    with torch.autocast('cuda', dtype, enabled=dtype != torch.float32):
        total, y = ops.add_layer_norm(
            rand(2, 3, width), x, bias, bias, EPS, scale
        )
        q, k, v, packed = ops.tied_qkv(y, wq, wkv, bias, None, bias)
        out = ops.tied_out(q + k + v, wq, bias, packed=packed)
        last = ops.tied_ffn(out, w, None, bias, 'tanh', signed=True)
        (last.float().sum() + total.sum()).backward()
        with torch.no_grad():
            assert_close(
                ops.tied_ffn(out, w, None, bias, 'tanh', signed=True),
                last,
                atol=0.1,
                rtol=0.1,
            )
    assert torch.equal(
        ops.pack_qkv(wq, wkv, dtype), torch.cat((wq, wkv, wkv.t())).to(dtype)
    )
    for weight in (wq, wkv, w, bias):
        assert weight.grad.isfinite().all()


def test_odd_widths_run_the_definition_and_say_so(caplog):
    choice._log_once.cache_clear()
    x, w = rand(2, 3, 12), rand(20, 12)
    with caplog.at_level(logging.WARNING, 'halvit_mm'):
        for _ in range(2):
            assert_close(ops.tied_ffn(x, w), reference.tied_ffn(x, w))
    assert len(caplog.records) == 1
    assert 'no multiples of 8' in caplog.text


def test_float64_runs_the_definition():
    x, w = rand(2, 3, 16).double(), rand(32, 16).double()
    assert_close(ops.tied_ffn(x, w), reference.tied_ffn(x, w))
