"""What FFNs do to their input, against closed forms."""

import pytest
import torch
from ffn_spectrum import ffn_statistics
from mmengine.model import BaseModule
from torch import nn
from torch.testing import assert_close

from halvit_mm.models.backbones import (
    GroupedViT,
    HaLViT,
    PlainViT,
    SharedHaLViT,
)
from tests.helpers import ARCH, build, randomise

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
D = ARCH['embed_dims']


class Linear(BaseModule):
    """A linear FFN of known eigenvalues."""

    def __init__(self, matrix):
        super().__init__()
        self.matrix = nn.Parameter(matrix)

    def forward(self, x):
        return x @ self.matrix.T


def test_a_linear_map():
    backbone = build(PlainViT)
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(D, D, generator=generator)
    values = torch.linspace(-1, 2, D)
    matrix = basis @ torch.diag(values) @ torch.linalg.inv(basis)
    for layer in backbone.layers:
        layer.ffn = Linear(matrix)
    for found in ffn_statistics(backbone, IMAGES, 16, num_jacobians=2):
        assert_close(
            torch.tensor(found.eigenvalues),
            values.repeat_interleave(2),
            atol=1e-2,
            rtol=1e-2,
        )


@pytest.mark.parametrize('factor', [2.0, -0.5])
def test_a_copy(factor):
    backbone = build(PlainViT)
    for layer in backbone.layers:
        layer.ffn = Linear(factor * torch.eye(D))
    for found in ffn_statistics(backbone, IMAGES, 16):
        assert found.slope == pytest.approx(factor, rel=1e-5)
        assert found.share == pytest.approx(1, rel=1e-5)


def test_the_jacobian_of_a_tied_ffn():
    """``W^T diag(s * gelu'(W x + b)) W``, symmetric."""
    backbone = randomise(build(HaLViT, gain='signed')).double().eval()
    seen = []
    ffn = backbone.layers[1].ffn
    handle = ffn.register_forward_pre_hook(lambda _, args: seen.append(args))
    (found, *_) = ffn_statistics(backbone, IMAGES.double(), 4, 1)[1:]
    handle.remove()
    token = seen[0][0].flatten(0, -2)[0]
    weight, bias = ffn.tied.weight, ffn.tied.bias
    u = (weight @ token + bias).detach().requires_grad_()
    slopes = torch.autograd.grad(nn.functional.gelu(u).sum(), u)[0]
    slopes[len(slopes) // 2 :] *= -1
    expected = torch.linalg.eigvalsh(weight.T @ (slopes[:, None] * weight))
    assert_close(torch.tensor(found.eigenvalues).double(), expected.detach())


@pytest.mark.parametrize(
    ('shared_cls', 'untied_cls', 'owner'),
    [
        (GroupedViT, PlainViT, lambda i: f'groups.{i // 2}'),
        (SharedHaLViT, HaLViT, lambda i: 'shared'),
    ],
)
def test_shared_ffns(shared_cls, untied_cls, owner):
    """They are measured layer by layer, as copies of them would be."""
    arch = dict(ARCH, num_layers=4)
    shared = randomise(build(shared_cls, arch=arch))
    copies = build(untied_cls, arch=arch)
    state = shared.state_dict()
    own = {}
    for name in copies.state_dict():
        kind, _, rest = name.partition('.')
        index, _, rest = rest.partition('.')
        borrowed = f'{owner(int(index))}.{rest}' if kind == 'layers' else ''
        own[name] = state[name if name in state else borrowed]
    copies.load_state_dict(own)
    expected = ffn_statistics(copies, IMAGES, 16, 1)
    found = ffn_statistics(shared, IMAGES, 16, 1)
    assert len({layer.share for layer in found}) == len(found) == 4
    assert_close(
        [torch.tensor([x.slope, x.share, *x.eigenvalues]) for x in found],
        [torch.tensor([x.slope, x.share, *x.eigenvalues]) for x in expected],
        atol=1e-4,
        rtol=1e-3,
    )


def test_layers_without_one_call_each():
    backbone = build(PlainViT)
    backbone.layers[0].ffn = nn.Sequential(nn.Identity())
    ffn = backbone.layers[1].ffn
    backbone.layers[0].ffn.forward = lambda x: ffn(ffn(x))
    with pytest.raises(ValueError, match='called an FFN 5 times'):
        ffn_statistics(backbone, IMAGES)
