"""The backbone on the operators equals the backbone on their definitions."""

import pytest
import torch
from torch.testing import assert_close

from halvit_mm import ops
from halvit_mm.models.backbones import HaLViT
from halvit_mm.models.layers import TiedEncoderLayer
from tests.helpers import DETECTION, build, gradients, loss_of, randomise

HALF = (torch.bfloat16, torch.float16)
IMAGE = torch.randn(2, 3, 32, 40, generator=torch.Generator().manual_seed(0))
#: Its gradient is nothing but rounding, see below.
KEY_BIAS = ('kv.bias', 'qk.transposed.bias')
OPTIONS = {
    'default': {},
    'detection': dict(**DETECTION, window_size=3, window_block_indexes=[0, 2]),
    'drop_path': dict(drop_path_rate=0.5),
    'checkpointing': dict(with_cp=True, drop_path_rate=0.5),
    'frozen': dict(frozen_stages=2),
    'tanh': dict(act='gelu_tanh', qkv_bias=False),
    'like': dict(attn='like', gain='signed'),
    'like-detection': dict(
        attn='like', **DETECTION, window_size=3, window_block_indexes=[0, 2]
    ),
    'like-shift': dict(attn='like', gain='signed', hidden_shift=16),
    'like-untied-ffn': dict(attn='like', gain='untied', qkv_bias=False),
    'shift': dict(hidden_shift=32, drop_path_rate=0.5),
}


def ready(**kwargs):
    return randomise(build(HaLViT, **kwargs)).train()


def run(model, choice, dtype=None, image=IMAGE):
    """Outputs and gradients of one training step."""
    torch.manual_seed(3)
    model.zero_grad(set_to_none=True)
    autocast = torch.autocast('cpu', dtype, enabled=dtype is not None)
    with ops.use(choice):  # checkpointing computes again in the backward
        with autocast:
            outs = model(image)
        loss_of(out.float().cpu() for out in outs).backward()
    return outs[0], gradients(model)


@pytest.mark.parametrize('options', OPTIONS.values(), ids=OPTIONS)
def test_float32(options):
    model = ready(**options)
    actual, grads = run(model, 'auto')
    expected, expected_grads = run(model, 'plain')
    assert_close(actual, expected)
    for name, grad in grads.items():
        assert_close(grad, expected_grads[name], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('options', OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize('dtype', HALF)
def test_16_bits(options, dtype):
    """No further from float32 than twice what autocast alone is."""
    model = ready(**{**options, 'drop_path_rate': 0})  # drawn in the dtype
    exact, exact_grads = run(model, 'plain')
    results = [run(model, choice, dtype) for choice in ('auto', 'plain')]
    errors = [(out.float() - exact).norm() for out, _ in results]
    assert errors[0] <= 2 * errors[1]
    # A softmax does not see what all keys have in common: the gradient of
    # their bias is nothing but rounding.
    names = [n for n in exact_grads if not n.endswith(KEY_BIAS)]
    ours, theirs = (
        sum(relative(grads[n], exact_grads[n]) for n in names)
        for _, grads in results
    )
    assert ours <= 2 * theirs
    assert ours <= 0.1 * len(names)


@pytest.mark.parametrize(
    'device',
    [
        'cpu',
        pytest.param(
            'cuda',
            marks=[
                pytest.mark.cuda,
                pytest.mark.skipif(
                    not torch.cuda.is_available(), reason='no GPU'
                ),
            ],
        ),
    ],
)
@pytest.mark.parametrize('choice', ['auto', 'fallback'])
def test_random_numbers_are_drawn_as_by_the_definitions(choice, device):
    """Recomputed steps drop the same branches only if nothing else draws."""
    model = ready(with_cp=True, drop_path_rate=0.5, act='gelu_tanh').to(device)
    image = IMAGE.to(device)
    results, states = [], []
    for name in (choice, 'plain'):
        results.append(run(model, name, image=image))
        states.append([torch.get_rng_state(), *torch.cuda.get_rng_state_all()])
    assert_close(*results, atol=1e-4, rtol=1e-4)
    assert_close(*states, atol=0, rtol=0)


def relative(actual, expected):
    return (actual - expected).norm() / expected.norm()


@pytest.mark.parametrize('attn', ['paper', 'like'])
@pytest.mark.parametrize('in_compile', [True, False])
def test_compile(in_compile, attn):
    model = ready(with_cls_token=False, out_type='featmap', attn=attn)
    expected, expected_grads = run(model, 'auto')
    model.zero_grad(set_to_none=True)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager')
    with ops.use(in_compile=in_compile):
        (actual,) = compiled(IMAGE)
        loss_of([actual]).backward()
    assert_close(actual, expected)
    for name, grad in gradients(model).items():
        assert_close(grad, expected_grads[name], atol=1e-4, rtol=1e-4)


def test_a_dropped_branch_leaves_the_sample_alone():
    layer = ready(drop_path_rate=1 - 1e-6).layers[-1]
    x = torch.randn(4, 16, 32)
    assert torch.equal(layer(x, (4, 4)), x)
    assert not torch.equal(layer.eval()(x, (4, 4)), x)


@pytest.mark.parametrize('choice', ['auto', 'plain'])
def test_a_device_without_data(choice):
    with ops.use(choice):
        model = ready().to('meta')
        assert model(IMAGE.to('meta'))[0].shape == (2, 32)


@pytest.mark.parametrize(
    'norm_cfg',
    [
        dict(type='LN', elementwise_affine=False),
        dict(type='LN', bias=False),
        dict(type='BN1d', eps=1e-5),
    ],
)
def test_other_norms_run_as_modules(norm_cfg):
    layer = TiedEncoderLayer(8, 2, 16, norm_cfg=norm_cfg).eval()
    x = torch.randn(2, 8, 8)  # a batch norm takes it for (B, C, L)
    y = x + layer.attn(layer.ln1(x), (2, 4))
    assert_close(layer(x, (2, 4)), y + layer.ffn(layer.ln2(y)))


def test_hooks_of_norms_are_called():
    layer = ready().layers[0]
    seen = []
    x = torch.randn(2, 16, 32)
    expected = layer(x, (4, 4))
    layer.ln2.register_forward_hook(lambda m, args, out: seen.append(out))
    assert_close(layer(x, (4, 4)), expected)
    assert len(seen) == 1


def test_loss_scaling():
    """float16 with a scaler: gradients are those of a step without."""
    model = ready()
    _, expected = run(model, 'auto')
    scaler = torch.amp.GradScaler('cpu', init_scale=2.0**12)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    model.zero_grad(set_to_none=True)
    with torch.autocast('cpu', torch.float16):
        outs = model(IMAGE)
    scaler.scale(loss_of(out.float() for out in outs)).backward()
    scaler.unscale_(optimizer)
    for name, grad in gradients(model).items():
        if not name.endswith(KEY_BIAS):
            assert relative(grad, expected[name]) < 0.05, name


def test_an_empty_batch():
    out, grads = run(ready(), 'auto', image=IMAGE[:0])
    assert out.shape == (0, 32)
    assert all(not grad.any() for grad in grads.values())


@pytest.mark.cuda
@pytest.mark.skipif(
    ops.backend('cuda') != 'cuda',
    reason=f'no GPU: {ops.backend_reason("cuda")}',
)
@pytest.mark.parametrize('dtype', [torch.float32, *HALF])
def test_on_a_gpu(dtype):
    model = randomise(build(HaLViT)).cuda().train()
    image = IMAGE.cuda()
    results = []
    for choice in ('auto', 'plain'):
        model.zero_grad(set_to_none=True)
        enabled = dtype != torch.float32
        with ops.use(choice), torch.autocast('cuda', dtype, enabled=enabled):
            outs = [o.float() for o in model(image)]
        loss_of([o.cpu() for o in outs]).backward()
        results.append((outs[0], gradients(model)))
    tolerance = 2e-4 if dtype == torch.float32 else 5e-2
    (actual, grads), (expected, expected_grads) = results
    assert (actual - expected).norm() <= tolerance * expected.norm()
    for name, grad in grads.items():
        if not name.endswith('kv.bias'):  # zero, but for rounding
            other = expected_grads[name]
            assert (grad - other).norm() <= tolerance * other.norm(), name
