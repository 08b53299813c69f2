"""A compressed backbone in configs: built, loaded, trained, in a detector."""

import copy

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from torch.testing import assert_close

from halvit_mm.apis import load_config
from halvit_mm.apis.fake_data import fake_batch
from halvit_mm.apis.model_info import build_model
from halvit_mm.compression import (
    FiPSConfig,
    factors,
    prepare,
    save_compressed,
    scopes_of,
)
from halvit_mm.compression.sparsifiers import build_sparsifier
from halvit_mm.models import CompressedBackbone, HaLViT, PlainViT
from tests.commands import ROOT
from tests.helpers import ARCH, assert_one_owner, build, randomise

GROUP = r'layers\.\d\.ffn'
IMAGE = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class Classifier(torch.nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.head = torch.nn.Linear(2, 3)


def compressed_file(path, cls=PlainViT, groups=GROUP, **kwargs):
    """Write the file of a classifier.

    Returns:
        Its inner backbone.
    """
    inner = randomise(build(cls, **kwargs)).eval()
    config = FiPSConfig(groups, budget=0.5, sparsity=0.5)
    structures = prepare(inner, config).structures
    scopes = scopes_of(list(factors(inner)), 'group')
    build_sparsifier('static', scopes, 0.5, 1).start()
    model = Classifier(CompressedBackbone(inner))
    structures = [s.with_prefix('backbone.inner.') for s in structures]
    save_compressed(model, structures, path)
    return inner


def config(cls, path, **kwargs):
    inner = dict(
        type=f'halvit_mm.{cls.__name__}',
        arch=ARCH,
        img_size=32,
        patch_size=8,
        **kwargs,
    )
    return dict(backbone=inner, checkpoint=str(path))


@pytest.mark.parametrize('cls', [PlainViT, HaLViT])
def test_built_from_a_config(cls, tmp_path):
    path = tmp_path / 'c.safetensors'
    inner = compressed_file(path, cls)
    init_default_scope('mmpretrain')
    backbone = CompressedBackbone(**config(cls, path)).eval()
    names = [name for name, _ in backbone.named_parameters()]
    assert 'inner.shared_bases.group0.weight' in names  # before any optimiser
    backbone.init_weights()
    assert_one_owner(backbone)
    assert_close(backbone(IMAGE)[0], inner(IMAGE)[0])
    assert backbone.embed_dims == 32  # what else is asked of it
    depth = backbone.get_layer_depth
    name = 'b.inner.layers.1.ffn.x'
    assert depth(name, 'b.') == inner.get_layer_depth('layers.1.x')
    twin = copy.deepcopy(backbone)
    assert_close(twin(IMAGE)[0], inner(IMAGE)[0])


@pytest.mark.parametrize('frozen_stages', [-1, 2])
def test_layer_wise_rates(frozen_stages, tmp_path):
    """A base has the rate of the last layer that uses it, of three."""
    path = tmp_path / 'c.safetensors'
    compressed_file(path, groups=[r'layers\.[01]\.ffn', r'layers\.2\.ffn'])
    init_default_scope('mmpretrain')
    options = config(PlainViT, path, frozen_stages=frozen_stages)
    model = torch.nn.Module()
    model.backbone = CompressedBackbone(**options)
    model.get_layer_depth = lambda name: model.backbone.get_layer_depth(
        name, 'backbone.'
    )
    wrapper = build_optim_wrapper(
        model,
        dict(
            optimizer=dict(type='SGD', lr=1.0, weight_decay=0.1),
            constructor='LearningRateDecayOptimWrapperConstructor',
            paramwise_cfg=dict(layer_decay_rate=0.5),
        ),
    )
    rates = {
        group['param_name'].removeprefix('backbone.inner.'): group['lr']
        for group in wrapper.optimizer.param_groups
    }
    # depths: stem 0, layers 1 to 3, what follows 4
    assert rates['shared_bases.group1.weight'] == 0.5
    assert rates['ln1.weight'] == 1
    for name, rate in rates.items():
        if name.startswith('layers.'):
            assert rate == 0.5 ** (3 - int(name.split('.')[1])), name
    if frozen_stages < 0:
        assert rates['shared_bases.group0.weight'] == 0.25
    else:  # the layers rest, and so does their base
        assert 'shared_bases.group0.weight' not in rates


def test_detection_without_a_cls_token(tmp_path):
    """Embeddings are fitted as those of any checkpoint."""
    path = tmp_path / 'c.safetensors'
    compressed_file(path)
    options = dict(out_type='featmap', with_cls_token=False)
    init_default_scope('mmpretrain')
    backbone = CompressedBackbone(**config(PlainViT, path, **options))
    backbone.init_weights()
    assert backbone(IMAGE)[0].shape == (1, 32, 4, 4)


def test_messages(tmp_path):
    path = tmp_path / 'c.safetensors'
    init_default_scope('mmpretrain')
    with pytest.raises(FileNotFoundError, match='c.safetensors\nMake it: x y'):
        CompressedBackbone(**config(PlainViT, path), made_by='x y')
    compressed_file(path)
    settings = config(PlainViT, path)
    settings['backbone']['arch'] = dict(ARCH, embed_dims=16)
    with pytest.raises(ValueError, match='of another architecture'):
        CompressedBackbone(**settings)
    with pytest.raises(ValueError, match="do not start with 'neck.inner.'"):
        CompressedBackbone(**config(PlainViT, path), prefix='neck.')
    plain = CompressedBackbone(build(PlainViT))
    with pytest.raises(AttributeError, match='colour'):
        plain.colour  # noqa: B018


def test_in_mask_rcnn(tmp_path):
    """configs/fips/maskrcnn_halvit_t_fips.py on a smaller backbone."""
    path = tmp_path / 'c.safetensors'
    compressed_file(path, HaLViT)
    cfg = load_config(
        str(ROOT / 'configs/fips/maskrcnn_halvit_t_fips.py'),
        {
            'model.backbone.checkpoint': str(path),
            'model.backbone.backbone.arch': dict(ARCH, _delete_=True),
            'model.backbone.backbone.img_size': 32,
            'model.neck.in_channels': 32,
            'model.backbone.backbone.patch_size': 8,
            'model.backbone.backbone.drop_path_rate': 0.0,
            'model.neck.patch_size': 8,
        },
    )
    model = build_model(cfg)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    model.init_weights()
    (base,) = model.backbone.inner.shared_bases.values()
    before = base.weight.detach().clone()
    model.train().train_step(fake_batch(cfg, (64, 96), 1), wrapper)
    assert (base.weight != before).any()
    for factor in factors(model):
        assert factor.factor[~factor.weight.mask].abs().max() == 0
    with torch.no_grad():
        results = model.eval().test_step(fake_batch(cfg, (64, 96), 1))
    assert len(results) == 1
