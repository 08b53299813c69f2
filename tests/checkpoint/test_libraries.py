"""Weights of timm and transformers compute here what they compute there.

For `make test-libraries`: the models are the libraries' own, of random
weights. Run as a script, this records their names for `make test`.
"""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from halvit_mm.checkpoint import from_ours, load_weights
from halvit_mm.models import PlainViT
from tests.helpers import randomise

timm = pytest.importorskip('timm')
transformers = pytest.importorskip('transformers')

RECORD = Path(__file__).with_name('library_names.json')
D, LAYERS, HEADS, HIDDEN = 48, 3, 4, 96
ARCH = dict(
    embed_dims=D,
    num_layers=LAYERS,
    num_heads=HEADS,
    feedforward_channels=HIDDEN,
)
SIZES = dict(native=(56, 56), other=(28, 70))  # in pixels, patches of 14


def of_timm(name, **kwargs):
    def make():
        model = timm.create_model(
            name,
            img_size=56,
            patch_size=14,
            embed_dim=D,
            depth=LAYERS,
            num_heads=HEADS,
            mlp_ratio=HIDDEN / D,
            dynamic_img_size=True,
            **{'num_classes': 0, **kwargs},
        )
        return model, model.forward_features

    return make


def of_transformers(name, **kwargs):
    def make():
        config = getattr(transformers, f'{name}Config')(
            hidden_size=D,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=HIDDEN,
            image_size=56,
            patch_size=14,
            **kwargs,
        )
        model = getattr(transformers, f'{name}Model')(config)

        def run(image):
            options = {}
            if name == 'ViTMAE':  # every patch, in their order
                num = image.shape[2] * image.shape[3] // 14**2
                options = dict(noise=torch.arange(num)[None].float())
            found = model(image, interpolate_pos_encoding=True, **options)
            return found.last_hidden_state

        if name.startswith('Dinov2'):  # at any size without being told
            return model, lambda image: model(image).last_hidden_state
        return model, run

    return make


# name -> the model, the origin that is told, arguments of ours
HF = dict(norm_cfg=dict(type='LN', eps=1e-12))
KINDS = {
    'timm ViT': (of_timm('vit_tiny_patch16_224'), 'timm', {}),
    'timm DeiT': (
        of_timm('deit_tiny_distilled_patch16_224'),
        'timm',
        dict(num_registers=1),
    ),
    'timm DINOv2': (
        of_timm('vit_small_patch14_dinov2', init_values=0.1),
        'timm-dinov2',
        {},
    ),
    'timm DINOv2 with registers': (
        of_timm('vit_small_patch14_reg4_dinov2', init_values=0.1),
        'timm-dinov2',
        dict(num_registers=4),
    ),
    'ViT': (of_transformers('ViT'), 'transformers-vit', HF),
    'DeiT': (
        of_transformers('DeiT'),
        'transformers-deit',
        dict(num_registers=1, **HF),
    ),
    'ViTMAE': (
        of_transformers('ViTMAE', mask_ratio=0.0),
        'transformers-vit',
        HF,
    ),
    'Dinov2': (
        of_transformers('Dinov2', mlp_ratio=HIDDEN // D),
        'transformers-dinov2',
        {},
    ),
    'Dinov2WithRegisters': (
        of_transformers(
            'Dinov2WithRegisters', mlp_ratio=HIDDEN // D, num_register_tokens=4
        ),
        'transformers-dinov2',
        dict(num_registers=4, antialias=True),
    ),
}


#: Its cls token has no position embedding, which ours has: only to here.
ONE_WAY = {
    'timm DeiT III': (
        of_timm('deit3_small_patch16_224', init_values=0.1),
        'timm-dinov2',
        {},
    ),
}


def ours(path=None, **options):
    init_cfg = path and dict(type='Pretrained', checkpoint=str(path))
    vit = PlainViT(
        arch=ARCH,
        img_size=56,
        patch_size=14,
        out_type='raw',
        init_cfg=init_cfg,
        **options,
    )
    vit.init_weights()
    return vit.eval()


def make_random(kind):
    torch.manual_seed(0)
    make, origin, options = (KINDS | ONE_WAY)[kind]
    if kind.startswith('timm'):
        options = dict(antialias=True, **options)
    model, run = make()
    return randomise(model).eval(), run, origin, options


@torch.no_grad()
def difference(run, other, size):
    image = torch.randn(1, 3, *SIZES[size])
    there, here = run(image), other(image)
    assert there.shape == here.shape
    return ((there - here).abs().max() / there.abs().max()).item()


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('kind', KINDS | ONE_WAY)
def test_the_same_output(kind, size, tmp_path, said):
    model, run, origin, options = make_random(kind)
    save_file(model.state_dict(), tmp_path / 'there.safetensors')
    vit = ours(tmp_path / 'there.safetensors', **options)
    assert any(f'these are the names of {origin}' in line for line in said)
    assert difference(run, lambda image: vit(image)[0], size) <= 1e-5


@pytest.mark.parametrize('kind', KINDS)
def test_the_way_back(kind):
    """A model of ours computes the same in the library."""
    model, run, origin, options = make_random(kind)
    vit = randomise(ours(**options)).eval()
    state = {f'backbone.{k}': v for k, v in vit.state_dict().items()}
    found = from_ours(state, origin)
    differ = model.load_state_dict(found, strict=False)
    assert not differ.unexpected_keys
    assert all('mask_token' in k or 'pooler' in k for k in differ.missing_keys)
    assert difference(run, lambda image: vit(image)[0], 'native') <= 1e-5


def record():
    """Origin, arguments of ours, and names and shapes of every kind."""
    kinds = {}
    for kind, (make, origin, options) in KINDS.items():
        options = {k: v for k, v in options.items() if k == 'num_registers'}
        state = make()[0].state_dict()
        shapes = {k: list(v.shape) for k, v in state.items()}
        kinds[kind] = [origin, options, shapes]
    return dict(arch=ARCH, kinds=kinds)


def test_the_recorded_names_are_the_libraries():
    assert json.loads(RECORD.read_text()) == record()


@torch.no_grad()
@pytest.mark.parametrize('size', [(224, 224), (280, 420)])
def test_a_really_trained_vit(size):
    """A Dinov2Model of width 384 and patch 14, such as DINOv2's ViT-S."""
    path = os.environ.get('HALVIT_MM_REAL_VIT')
    if not path:
        pytest.skip('HALVIT_MM_REAL_VIT names no file of a Dinov2Model')
    config = transformers.Dinov2Config(
        hidden_size=384, num_attention_heads=6, image_size=518, patch_size=14
    )
    model = transformers.Dinov2Model(config).eval()
    missing = model.load_state_dict(load_file(path), strict=False)
    assert missing.missing_keys == ['embeddings.mask_token']
    init_cfg = dict(type='Pretrained', checkpoint=path)
    vit = PlainViT('tiny', 518, 14, out_type='raw', init_cfg=init_cfg).eval()
    vit.init_weights()
    image = torch.randn(1, 3, *size)
    there, here = model(image).last_hidden_state, vit(image)[0]
    assert (there - here).abs().max() <= 1e-5 * there.abs().max()


@pytest.mark.parametrize(
    ('name', 'origin', 'head'),
    [
        ('ViTForImageClassification', 'transformers-vit', 'classifier'),
        ('DeiTForImageClassification', 'transformers-deit', 'classifier'),
        ('Dinov2ForImageClassification', 'transformers-dinov2', None),
    ],
)
def test_heads_are_kept_or_named(name, origin, head, tmp_path, said):
    kind = name.removesuffix('ForImageClassification')
    config = getattr(transformers, f'{kind}Config')(
        hidden_size=D,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=HIDDEN,
        mlp_ratio=HIDDEN // D,
        image_size=56,
        patch_size=14,
        num_labels=5,
    )
    model = randomise(getattr(transformers, name)(config))
    path = tmp_path / 'there.safetensors'
    save_file(model.state_dict(), path)

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = ours(num_registers=int(kind == 'DeiT'))
            self.head = nn.Module()
            self.head.layers = nn.Module()
            self.head.layers.head = nn.Linear(D, 5)

    whole = Classifier()
    if head is None:
        assert load_weights(whole.backbone, str(path)) == 1.0
        assert any('counterpart here (3): ' in line for line in said)
        return
    assert load_weights(whole, str(path)) == 1.0
    assert torch.equal(whole.head.layers.head.weight, model.classifier.weight)
    back = from_ours(whole.state_dict(), origin)
    assert not model.load_state_dict(back, strict=False).unexpected_keys


if __name__ == '__main__':
    RECORD.write_text(json.dumps(record(), indent=1) + '\n')
