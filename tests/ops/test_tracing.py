"""What PyTorch's tracers make of the operators."""

import pytest
import torch
from torch.library import opcheck
from torch.testing import assert_close

from halvit_mm import ops

from .cases import EPS, NAMES, B, D, F, cases, outputs

X = (B, 3, D)
H = torch.ops.halvit
CHECKS = (
    'test_schema',
    'test_autograd_registration',
    'test_faketensor',
    'test_aot_dispatch_dynamic',
)


def rand(*shape, grad=True, dtype=torch.float32):
    return torch.randn(*shape, dtype=dtype, requires_grad=grad)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('delta', [True, False])
@pytest.mark.parametrize('scale', [True, False])
def test_opcheck_add_layer_norm(dtype, delta, scale):
    args = (
        rand(*X),
        rand(*X, dtype=dtype) if delta else None,
        torch.rand(B) if scale and delta else None,
        rand(D),
        rand(D),
        EPS,
        dtype,
    )
    opcheck(H.add_layer_norm, args, test_utils=CHECKS)
    total, y, mean, rstd = H.add_layer_norm(*args)
    total = args[0] if args[1] is None else total
    saved = (t.detach() for t in (total, mean, rstd, args[3]))
    args = (*(t.detach() for t in (total, y)), *saved, args[2], dtype)
    for needs in ([True] * 3, [False] * 3):
        opcheck(H.add_layer_norm_backward, (*args, needs))
    opcheck(H.add_layer_norm_backward, (None, *args[1:], [delta, False, True]))
    opcheck(H.add_layer_norm_backward, (args[0], None, *args[2:], [True] * 3))


def test_results_are_contiguous_as_is_said():
    """Also for inputs that are not: a compiled graph relies on it."""
    weight = rand(D, grad=False)
    x = rand(B, D, 3, grad=False).transpose(1, 2)
    stats = [torch.ones(B * 3) for _ in range(2)]
    scale = torch.rand(B)
    both = (torch.float32, [True] * 3)
    results = [
        *H.add_layer_norm(x, x, scale, weight, weight, EPS, x.dtype),
        *H.add_layer_norm(x, x, None, weight, weight, EPS, x.dtype),
        *H.add_layer_norm_backward(x, None, x, *stats, weight, scale, *both),
        *H.add_layer_norm_backward(x, x, x, *stats, weight, scale, *both),
        *H.tied_qkv(x, rand(D, D), rand(D, D), None, None, None),
        H.tied_out(x, rand(D, D), x.new_empty(0), None),
    ]
    assert all(t.is_contiguous() for t in results)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_opcheck_attention(dtype):
    x, wq, wkv = rand(*X, dtype=dtype), rand(D, D), rand(D, D)
    args = (x, wq, wkv, rand(D), None, rand(D))
    opcheck(H.tied_qkv, args, test_utils=CHECKS)
    q, k, v, packed = (t.detach() for t in H.tied_qkv(*args))
    x, wq, wkv = (t.detach() for t in (x, wq, wkv))
    for dq, needs in ((q, [True] * 6), (None, [True] * 6), (q, [False] * 6)):
        opcheck(H.tied_qkv_backward, (dq, k, v, x, wq, wkv, packed, needs))
    opcheck(H.pack_qkv, (wq, wkv, dtype))
    args = (rand(*X, dtype=dtype), rand(D, D), packed, rand(D))
    opcheck(H.tied_out, args, test_utils=CHECKS)
    saved = tuple(t.detach() for t in args[:3])
    for need in (True, False):
        opcheck(H.tied_out_backward, (q, *saved, [need] * 3))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('signed', [False, True])
def test_opcheck_ffn(dtype, signed):
    x, w = rand(*X, dtype=dtype), rand(F, D)
    options = (signed, 'tanh')
    args = (x, w, rand(F), rand(D), *options)
    opcheck(H.tied_ffn, args, test_utils=CHECKS)
    args = tuple(
        t.detach() if isinstance(t, torch.Tensor) else t for t in args
    )
    opcheck(H.tied_ffn_inference, args)
    y, u, w_cast = H.tied_ffn(*args)
    x, w = args[:2]
    for need in (True, False):
        needs = [need] * 4
        opcheck(H.tied_ffn_backward, (y, x, u, w, w_cast, *options, needs))


@pytest.mark.parametrize('in_compile', [True, False])
@pytest.mark.parametrize('name', NAMES)
def test_compile_without_a_break(name, in_compile):
    case = cases()[name]
    inputs = case.inputs()
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda *args: case.function(*args, **case.options),
        fullgraph=True,
        backend='aot_eager',
    )
    with ops.use(in_compile=in_compile):
        actual = outputs(compiled(*inputs))
    expected = case(*inputs)
    assert_close(actual, expected)
    tensors = [t for t in inputs if isinstance(t, torch.Tensor)]
    losses = [sum(o.pow(3).sum() for o in outs) for outs in (actual, expected)]
    assert_close(*(torch.autograd.grad(loss, tensors) for loss in losses))


def operators_in(graph):
    names = {str(node.target) for node in graph.nodes}
    return {name for name in names if name.startswith('halvit')}


def test_compile_sees_what_is_chosen_now():
    graphs = []

    def backend(module, inputs):
        graphs.append(operators_in(module.graph))
        return module

    case = cases()['ffn']
    torch._dynamo.reset()
    compiled = torch.compile(case.function, backend=backend)
    for in_compile in (True, False):
        with ops.use(in_compile=in_compile):
            compiled(*case.inputs())
    # it was compiled again
    assert graphs == [{'halvit.tied_ffn.default'}, set()]


class Module(torch.nn.Module):
    def __init__(self, case):
        super().__init__()
        self.case = case

    def forward(self, *inputs):
        return self.case.function(*inputs, **self.case.options)


@pytest.mark.parametrize('name', ['add-norm', 'qkv', 'out', 'ffn-signed'])
def test_export_and_trace_hold_no_operator_of_ours(name):
    case = cases()[name]
    inputs = tuple(t.detach() for t in case.inputs())
    expected = case.function(*inputs, **case.options)
    if name == 'qkv':
        expected = expected[:3]
    with ops.use(in_compile=True):  # not even then
        exported = torch.export.export(Module(case), inputs)
    assert operators_in(exported.graph) == set()
    actual = exported.module()(*inputs)
    assert_close(actual[:3] if name == 'qkv' else actual, expected)
    if name != 'qkv':  # a None cannot be traced
        traced = torch.jit.trace(Module(case), inputs)
        assert 'halvit::' not in str(traced.graph)
        assert_close(traced(*inputs), expected)
