"""Graphs that leave PyTorch: any batch, any size, nothing of ours in them."""

import pytest
import torch
from torch.export import Dim
from torch.testing import assert_close

from halvit_mm.models import GroupedViT, HaLViT, PlainViT, SharedHaLViT
from tests.helpers import ARCH, DETECTION, build, randomise

ARCH4 = dict(ARCH, num_layers=4)
WINDOWS = dict(**DETECTION, window_size=3, window_block_indexes=[0])
MODELS = {
    'plain': (PlainViT, {}),
    'halvit': (HaLViT, {}),
    'halvit-windows': (HaLViT, dict(gain='signed', **WINDOWS)),
    'shared': (SharedHaLViT, {}),
    'shared-matrices': (SharedHaLViT, dict(share_vectors=False)),
    'grouped': (GroupedViT, dict(arch=ARCH4, shares=['ffn'])),
}
SHAPES = [(1, 3, 32, 32), (3, 3, 48, 40), (4, 3, 40, 96)]


def ready(name):
    cls, options = MODELS[name]
    return randomise(build(cls, **options)).eval()


def images(shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
@pytest.mark.parametrize('name', MODELS)
def test_torch_export_with_dynamic_batch_and_size(name):
    model = ready(name)
    sides = {i: 8 * Dim(f'side{i}', min=1, max=64) for i in (2, 3)}
    program = torch.export.export(
        model,
        (images((2, 3, 48, 64)),),
        dynamic_shapes=({0: Dim('batch'), **sides},),
        strict=False,
    )
    assert not [n for n in program.graph.nodes if 'halvit' in str(n.target)]
    for shape in SHAPES:
        image = images(shape)
        expected = model(image)
        assert_close(program.module()(image), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize('name', MODELS)
def test_trace_at_another_batch(name):
    model = ready(name)
    traced = torch.jit.trace(model, images((2, 3, 32, 40)))
    assert 'halvit::' not in str(traced.inlined_graph)
    for batch in (1, 2, 5):
        image = images((batch, 3, 32, 40))
        assert_close(traced(image), model(image))
