"""FiPS on real backbones: FFNs and attention, untied and tied, Swin."""

import copy

import pytest
import torch
from mmpretrain.models.backbones import SwinTransformer, VisionTransformer
from torch.testing import assert_close

from halvit_mm.compression import (
    FiPSConfig,
    attach_structure,
    convert,
    factors,
    load_compressed,
    prepare,
    save_compressed,
)
from halvit_mm.models import HaLViT, PlainViT
from tests.helpers import build, randomise

from .models import compress

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = [torch.randn(2, 3, 32, 32, generator=GENERATOR) for _ in range(3)]
TIED = {r'.*\.attn\.(q|kv)': 'in'}
UNTIED = {r'.*\.proj': 'out'}
ATTENTION = r'layers\.\d\.(attn|ffn)'


def swin():
    arch = dict(embed_dims=16, depths=[2, 2], num_heads=[2, 4])
    return SwinTransformer(
        arch, img_size=32, patch_size=2, window_size=4, out_indices=(1,)
    )


CASES = {
    'FFNs': (lambda: build(PlainViT), [r'layers\.\d\.ffn'], None),
    'with attention': (lambda: build(PlainViT), [ATTENTION], UNTIED),
    'tied FFNs': (lambda: build(HaLViT), [r'layers\.\d\.ffn'], None),
    'tied, with attention': (lambda: build(HaLViT), [ATTENTION], TIED),
    'signed': (lambda: build(HaLViT, gain='signed'), [ATTENTION], TIED),
    'windows': (
        lambda: build(
            HaLViT,
            out_type='featmap',
            with_cls_token=False,
            window_size=2,
            window_block_indexes=(0, 1),
        ),
        [ATTENTION],
        TIED,
    ),
    'mmpretrain': (
        lambda: build(VisionTransformer),
        [r'layers\.\d\.(attn|ffn\.layers)'],
        UNTIED,
    ),
    'Swin': (
        swin,
        [rf'stages\.{i}\.blocks\.\d\.(attn|ffn\.layers)' for i in (0, 1)],
        UNTIED,
    ),
}


@pytest.fixture(params=CASES)
def case(request):
    make, groups, square = CASES[request.param]
    torch.manual_seed(0)
    model = randomise(make())
    model.eval()  # in a line of its own: the host's returns None
    return model, groups, square


@torch.no_grad()
def test_full_rank_without_pruning_is_the_model(case):
    original, groups, square = case
    model = copy.deepcopy(original)
    config = FiPSConfig(groups, sparsity=0.0, square=square, rank=64)
    assert max(prepare(model, config).svd_errors) < 1e-6
    expected = original(IMAGES[0])[-1]
    assert_close(model(IMAGES[0])[-1], expected, rtol=1e-5, atol=1e-5)
    twin = copy.deepcopy(model)
    convert(model)
    for one in (model, twin):  # and the copy is what it was
        assert_close(one(IMAGES[0])[-1], expected, rtol=1e-5, atol=1e-5)
    assert list(factors(twin)) and not list(factors(model))


def test_exact_factors_leave_no_error(case, tmp_path):
    """What a unit is to give is what it gives."""
    original, groups, square = case
    config = FiPSConfig(
        groups, square=square, rank=64, epochs=0, method='dense'
    )
    _, errors = compress(config, tmp_path, original, IMAGES)
    assert len(errors) >= 3
    assert all(e.before == e.after < 1e-9 for e in errors)


def test_a_unit_with_keyword_arguments_is_refused(tmp_path):
    """The host adds the residual inside: that is no target."""
    original = build(VisionTransformer)
    original.eval()
    config = FiPSConfig(r'layers\.\d\.ffn', budget=0.5, sparsity=0.5)
    with pytest.raises(ValueError, match=r"\['identity'\].*0\.ffn\.layers"):
        compress(config, tmp_path, original, IMAGES)


def test_calibrated_and_stored(case, tmp_path):
    original, groups, square = case
    options = dict(budget=0.5, sparsity=0.5, epochs=10, lr=0.02, interval=3)
    config = FiPSConfig(groups, square=square, **options)
    states = tmp_path / 'states'
    compression, errors = compress(config, states, original, IMAGES)
    model = compression.model
    before = sum(error.before for error in errors)
    assert sum(error.after for error in errors) < 0.8 * before
    structures = compression.structures
    path = tmp_path / 'c.safetensors'
    save_compressed(model, structures, path)
    twin = copy.deepcopy(original)
    assert load_compressed(twin, path) == structures
    twin.eval()
    model.eval()
    with torch.no_grad():
        assert_close(twin(IMAGES[0])[-1], model(IMAGES[0])[-1])


def test_both_uses_of_a_tied_matrix_train_one_factor():
    """Its gradient is the sum over the uses, as an untied twin tells."""
    torch.manual_seed(0)
    model = randomise(build(HaLViT)).double()
    config = FiPSConfig(r'layers\.1\.ffn', budget=0.9, sparsity=0.0)
    compression = prepare(model, config)
    twin = randomise(build(HaLViT)).double()
    attach_structure(twin, compression.structures)
    twin.load_state_dict(model.state_dict())
    (factor,), (other,) = factors(model), factors(twin)
    x = IMAGES[0].double()
    # the product as a leaf: its gradient, through the chain rule by hand
    weight = other.module.weight.detach().requires_grad_()
    other.module.parametrizations.weight[0].forward = lambda v: weight
    for net in (model, twin):
        net.eval()(x)[0].square().sum().backward()
    base = factor.weight.base.weight
    columns = weight.grad.t() if factor.weight.transposed else weight.grad
    assert_close(factor.factor.grad, base.detach().t() @ columns)
    assert_close(base.grad, columns @ factor.factor.detach().t())
