"""Gradients of the uses of a tied matrix, apart."""

import pytest
import torch
from gradient_ratios import gradient_ratios, untied
from mmpretrain.structures import DataSample
from torch.testing import assert_close

from halvit_mm.apis import load_config
from halvit_mm.apis.model_info import build_model
from halvit_mm.models.layers import TiedLinear
from tests.helpers import randomise

from .conftest import ROOT

TYINGS = {
    'untied': {},
    'paper': {'model.backbone.type': 'halvit_mm.HaLViT'},
    'version 2': {
        'model.backbone.type': 'halvit_mm.HaLViT',
        'model.backbone.gain': 'signed',
        'model.backbone.attn': 'like',
        'model.backbone.attention_scale': 3,
    },
}


def model_of(name):
    path = ROOT / 'configs' / 'studies' / 'vit_cifar10.py'
    torch.manual_seed(0)
    cfg = load_config(str(path), TYINGS[name], read_data=False)
    return randomise(build_model(cfg)).eval()


def batch():
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    samples = [DataSample().set_gt_label(i) for i in range(4)]
    return dict(inputs=images, data_samples=samples)


def loss_of(model, data):
    losses = model(**model.data_preprocessor(data), mode='loss')
    return sum(losses.values())


@pytest.mark.parametrize('name', TYINGS)
def test_the_gradients_of_all_uses_make_up_the_matrix_s(name):
    model, data = model_of(name), batch()
    loss = loss_of(model, data)
    loss.backward()
    attn = model.backbone.layers[0].attn
    own = [p.grad for n, p in attn.named_parameters() if p.ndim == 2]
    tied = [m for m in attn.modules() if isinstance(m, TiedLinear)]
    with torch.no_grad():
        x = torch.randn(1, 64, 96)
        assert_close(untied(attn)(x, (8, 8)), attn(x, (8, 8)))
    ratios = gradient_ratios(model, data)
    assert_close(loss_of(model, data), loss)
    uses = model.backbone.layers[0].attn
    q, k, v = uses.qkv.weight.grad.chunk(3)
    out = uses.proj.weight.grad
    expected = {
        'untied': [uses.qkv.weight.grad, out],
        'paper': [q + out.t(), k + v.t()],
        'version 2': [q + k.t(), v + out],
    }[name]
    assert len(tied) == (0 if name == 'untied' else 2)
    assert_close(own, expected, rtol=1e-3, atol=1e-5)
    qk, vo = torch.cat((q, k)).norm(), torch.cat((v, out)).norm()
    assert ratios[0] == pytest.approx((qk / vo).item(), rel=1e-5)
    assert len(ratios) == 4
