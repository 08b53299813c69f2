"""What PyTorch's tracers make of the operators."""

import pytest
import torch
from proof.operators import check_calls, operator_calls, operator_names
from torch.testing import assert_close

from halvit_mm import ops

from .cases import EPS, NAMES, B, D, cases, outputs

X = (B, 3, D)
H = torch.ops.halvit


def rand(*shape, grad=True, dtype=torch.float32):
    return torch.randn(*shape, dtype=dtype, requires_grad=grad)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_opcheck(dtype):
    calls = operator_calls('cpu', dtype)
    assert sorted(calls) == operator_names()
    for name, variants in calls.items():
        if dtype == torch.float32:  # the others differ in what is there only
            variants = variants[:1]
        assert set(check_calls(name, variants).values()) == {'SUCCESS'}, name


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
