"""Gradients recorded in C++: what is asked for, tracers, and refusals."""

import itertools
from functools import partial

import pytest
import torch
from proof.operators import check_calls, operator_calls
from torch.testing import assert_close as assert_near

from halvit_mm import ops
from halvit_mm.ops import reference

from .helpers import OPS, rand

WIDTH, HIDDEN, EPS = 8, 32, 1e-6
X, ROW, SQUARE, WIDE = (2, 3, WIDTH), (WIDTH,), (WIDTH,) * 2, (HIDDEN, WIDTH)
assert_close = partial(assert_near, rtol=1e-4, atol=1e-4)
SCALE = torch.tensor([0.0, 1.25])


def norm(module, x, delta, weight, bias):
    scale = None if delta is None else SCALE
    return module.add_layer_norm(x, delta, weight, bias, EPS, scale)


def qkv(module, *inputs):
    return module.tied_qkv(*inputs)[:3]


def out(module, *inputs):
    return (module.tied_out(*inputs),)


def ffn(module, *inputs):
    return (module.tied_ffn(*inputs, 'none', True),)


#: Function, shapes of its inputs, which of them may be None, its C++ node.
OPERATORS = {
    'norm': (norm, (X, X, ROW, ROW), [1], 'AddLayerNormGrad'),
    'qkv': (qkv, (X, SQUARE, SQUARE, ROW, ROW, ROW), [3, 4, 5], 'TiedQkvGrad'),
    'out': (out, (X, SQUARE, ROW), [2], 'TiedOutGrad'),
    'ffn': (ffn, (X, WIDE, (HIDDEN,), ROW), [2, 3], 'TiedFfnGrad'),
}


def inputs_of(shapes, absent=()):
    return [
        None if i in absent else rand(*shape, scale=0.5).requires_grad_()
        for i, shape in enumerate(shapes)
    ]


def gradients(outs, inputs):
    loss = sum(o.pow(3).sum() for o in outs if o.requires_grad)
    tensors = [t for t in inputs if t is not None and t.requires_grad]
    return torch.autograd.grad(loss, tensors)


def subsets(items):
    sizes = range(len(items) + 1)
    return [c for n in sizes for c in itertools.combinations(items, n)]


@pytest.mark.parametrize('name', OPERATORS)
def test_each_input_alone_and_each_bias_absent(name):
    """Edges count only the tensors that are there."""
    function, shapes, optional, node = OPERATORS[name]
    for absent in subsets(optional):
        inputs = inputs_of(shapes, absent)
        there = [i for i, t in enumerate(inputs) if t is not None]
        for chosen in ([i] for i in there), [there]:
            for trained in chosen:
                for i in there:
                    inputs[i] = inputs[i].detach()
                    inputs[i].requires_grad_(i in trained)
                outs = function(ops, *inputs)
                assert node in outs[-1].grad_fn.name()
                expected = function(reference, *inputs)
                assert_close(outs, expected)
                assert_close(
                    gradients(outs, inputs), gradients(expected, inputs)
                )


@pytest.mark.parametrize(('name', 'count'), [('norm', 2), ('qkv', 3)])
def test_one_result_is_used(name, count):
    function, shapes, *_ = OPERATORS[name]
    for used in range(count):
        inputs = inputs_of(shapes)
        found = [
            torch.autograd.grad(
                function(module, *inputs)[used].pow(3).sum(),
                inputs,
                allow_unused=True,
                materialize_grads=True,
            )
            for module in (ops, reference)
        ]
        assert_close(*found)


def test_nothing_is_recorded_without_need():
    x, w = rand(*X), rand(*SQUARE)
    assert ops.tied_out(x, w).grad_fn is None
    with torch.no_grad():
        assert ops.tied_out(x, w.requires_grad_()).grad_fn is None
    *qkv, packed = OPS.tied_qkv(x, w, w, None, None, None)
    assert qkv[0].requires_grad and not packed.requires_grad
    w = rand(*WIDE).requires_grad_()
    y, u, cast = OPS.tied_ffn(x, w, None, None, False, 'none')
    assert y.requires_grad and not (u.requires_grad or cast.requires_grad)


@pytest.mark.parametrize('name', OPERATORS)
def test_a_second_derivative_is_refused(name):
    function, shapes, *_ = OPERATORS[name]
    inputs = inputs_of(shapes)
    loss = function(ops, *inputs)[-1].pow(3).sum()
    with pytest.raises(NotImplementedError, match='HALVIT_MM_OPS=plain'):
        torch.autograd.grad(loss, inputs[0], create_graph=True)


@pytest.mark.parametrize('name', OPERATORS)
def test_compile_without_a_break(name):
    function, shapes, optional, _ = OPERATORS[name]
    for absent in ((), tuple(optional)):
        inputs = inputs_of(shapes, absent)
        torch._dynamo.reset()
        with ops.use(in_compile=True):
            compiled = torch.compile(
                lambda *args: function(ops, *args),
                fullgraph=True,
                backend='aot_eager',
            )
            outs = compiled(*inputs)
        expected = function(ops, *inputs)
        assert_close(outs, expected)
        assert_close(gradients(outs, inputs), gradients(expected, inputs))


def test_opcheck():
    for name, variants in operator_calls('cpu', torch.bfloat16).items():
        assert set(check_calls(name, variants).values()) == {'SUCCESS'}, name


@pytest.mark.parametrize('name', OPERATORS)
def test_compiled_autograd(name):
    """It refuses functions that mark results as having no gradient."""
    function, shapes, *_ = OPERATORS[name]
    inputs = inputs_of(shapes)
    expected = gradients(function(ops, *inputs), inputs)
    compile_backward = partial(torch.compile, backend='eager')
    with torch._dynamo.compiled_autograd._enable(compile_backward):
        actual = gradients(function(ops, *inputs), inputs)
    assert_close(actual, expected)


@pytest.mark.parametrize('name', OPERATORS)
def test_vmap_keeps_the_gradient_of_the_input(name):
    """Inside, the input says of itself that it needs none."""
    function, shapes, *_ = OPERATORS[name]
    x, *rest = inputs_of(shapes)
    rest = [t.detach() for t in rest]
    batch = torch.stack((x, 2 * x)).detach().requires_grad_()
    found = []
    for module in (ops, reference):
        outs = torch.vmap(lambda x, m=module: function(m, x, *rest)[-1])(batch)
        found.append(torch.autograd.grad(outs.pow(3).sum(), batch)[0])
    assert_close(*found)
