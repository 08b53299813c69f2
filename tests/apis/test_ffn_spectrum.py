"""What FFNs do to their input, against closed forms."""

import pytest
import torch
from mmengine.model import BaseModule
from torch import nn
from torch.testing import assert_close

from halvit_mm.apis.ffn_spectrum import ffn_statistics
from halvit_mm.models.backbones import GroupedMLPViT, HaLViT, PlainViT
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
    weight, bias, _ = ffn.tied.weights()
    u = (weight @ token + bias).detach().requires_grad_()
    slopes = torch.autograd.grad(nn.functional.gelu(u).sum(), u)[0]
    slopes[len(slopes) // 2 :] *= -1
    expected = torch.linalg.eigvalsh(weight.T @ (slopes[:, None] * weight))
    assert_close(torch.tensor(found.eigenvalues).double(), expected.detach())


def test_borrowed_ffns():
    backbone = build(GroupedMLPViT, arch=dict(ARCH, num_layers=4))
    with pytest.raises(ValueError, match='borrow their FFN'):
        ffn_statistics(backbone, IMAGES)
