"""The operators against their definitions: values and gradients."""

import pytest
import torch
from torch.testing import assert_close

from halvit_mm import ops

from .cases import NAMES, cases


def compare(case, inputs):
    actual, expected = case(*inputs), case.expected(*inputs)
    assert_close(actual, expected)
    grads = [torch.randn_like(out) for out in expected]
    tensors = [t for t in inputs if isinstance(t, torch.Tensor)]
    assert_close(
        torch.autograd.grad(actual, tensors, grads),
        torch.autograd.grad(expected, tensors, grads),
    )


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('tokens', [1, 5, 197])
def test_equals_its_definition(name, tokens):
    case = cases(tokens)[name]
    compare(case, case.inputs())


@pytest.mark.parametrize('name', NAMES)
def test_any_strides(name):
    case = cases(5)[name]
    inputs = [
        t.detach().transpose(0, -1).contiguous().transpose(0, -1)
        if isinstance(t, torch.Tensor) and t.dim() > 1
        else t
        for t in case.inputs()
    ]
    assert not inputs[0].is_contiguous()
    for t in inputs:
        if isinstance(t, torch.Tensor):
            t.requires_grad_()
    compare(case, inputs)


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('shape', [(0, 3), (2, 0)])
def test_nothing_to_do(name, shape):
    case = cases()[name]
    inputs = case.inputs()
    for i, t in enumerate(inputs[:2]):
        if isinstance(t, torch.Tensor) and t.dim() == 3:
            inputs[i] = t.new_empty(*shape, t.shape[-1]).requires_grad_()
    if case.options.get('row_scale') is not None:
        case.options['row_scale'] = torch.ones(shape[0], dtype=torch.float64)
    outs = case(*inputs)
    assert outs[0].shape == inputs[0].shape
    tensors = [t for t in inputs if isinstance(t, torch.Tensor)]
    sums = [out.sum() for out in outs]
    for t, grad in zip(tensors, torch.autograd.grad(sums, tensors)):
        assert_close(grad, torch.zeros_like(t))


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('tokens', [1, 197, 4200])
def test_gradcheck(name, tokens):
    case = cases(tokens)[name]
    assert torch.autograd.gradcheck(case, case.inputs(), fast_mode=True)


@pytest.mark.parametrize('name', NAMES)
def test_only_what_is_asked_for(name):
    """Each gradient alone equals the one that is computed with the others."""
    case = cases()[name]
    inputs = case.inputs()
    for i, chosen in enumerate(inputs):
        if not isinstance(chosen, torch.Tensor):
            continue
        alone = [getattr(t, 'detach', lambda t=t: t)() for t in inputs]
        alone[i].requires_grad_()
        loss = [sum_of(case(*tensors)) for tensors in (inputs, alone)]
        (expected,) = torch.autograd.grad(loss[0], chosen)
        (actual,) = torch.autograd.grad(loss[1], alone[i])
        assert_close(actual, expected)


def sum_of(outs):
    # not a plain sum, which is constant behind a norm
    return sum(out.pow(3).sum() for out in outs)


@pytest.mark.parametrize(
    ('name', 'used'),
    [
        *(('qkv', i) for i in range(3)),
        *(('add-norm-scale', i) for i in range(2)),  # the sum, the norm
    ],
)
def test_only_one_result_is_used(name, used):
    case = cases()[name]
    inputs = case.inputs()
    outs = [f(*inputs)[used].pow(3).sum() for f in (case, case.expected)]
    grads = [
        torch.autograd.grad(
            out, inputs, allow_unused=True, materialize_grads=True
        )
        for out in outs
    ]
    assert_close(*grads)


def test_no_gradient_at_all_is_zero():
    """The backward operators themselves, as tracers may call them."""
    H = torch.ops.halvit
    x, w, b = torch.randn(2, 3, 8), torch.randn(8, 8), torch.randn(8)
    stats = [torch.ones(6) for _ in range(2)]
    scale, empty = torch.ones(2), x.new_empty(0)
    found = [
        *H.add_layer_norm_backward(
            None, None, x, *stats, b, scale, x.dtype, [True] * 3
        ),
        *H.tied_qkv_backward(None, None, None, x, w, w, empty, [True] * 6),
    ]
    shapes = [x, x, b, b, x, w, w, b, b, b]
    assert [t.shape for t in found] == [t.shape for t in shapes]
    assert not any(t.any() for t in found)


def test_inference_keeps_nothing_and_equals_training():
    for name in NAMES:
        case = cases()[name]
        inputs = case.inputs()
        expected = case.function(*inputs, **case.options)
        with torch.no_grad():
            actual = case.function(*inputs, **case.options)
        assert_close(actual, expected)


def test_packed_query_key_value():
    x, wq, wkv, *biases = cases()['qkv'].inputs()
    packed = ops.pack_qkv(wq, wkv, torch.float64)
    assert_close(packed, torch.cat((wq, wkv, wkv.t())))
    assert not packed.requires_grad
    actual = ops.packed_qkv(x, packed, torch.cat(biases))
    assert_close(actual, ops.tied_qkv(x, wq, wkv, *biases)[:3])
    assert_close(ops.packed_qkv(x, packed), ops.tied_qkv(x, wq, wkv)[:3])


def test_a_second_derivative_is_refused():
    case = cases()['ffn']
    inputs = case.inputs()
    (out,) = case(*inputs)
    with pytest.raises(NotImplementedError, match='HALVIT_MM_OPS=plain'):
        torch.autograd.grad(out.sum(), inputs[0], create_graph=True)
    with ops.use('plain'):
        (out,) = case(*inputs)
    (grad,) = torch.autograd.grad(out.sum(), inputs[0], create_graph=True)
    assert torch.autograd.grad(grad.sum(), inputs[1])[0].abs().sum() > 0
