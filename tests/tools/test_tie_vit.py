"""A HaLViT that starts from a trained ViT."""

import pytest
import torch
from torch.testing import assert_close

from halvit_mm.apis import load_config
from halvit_mm.apis.compress import read_settings, tie
from halvit_mm.apis.model_info import build_model
from halvit_mm.checkpoint import load_weights

from ..commands import ROOT
from .conftest import TWO_CLASSES, draw_dark_and_light, tool

CONFIG = ROOT / 'configs' / 'studies' / 'vit_cifar10.py'
SIZES = {
    **TWO_CLASSES,
    'model.backbone.arch.feedforward_channels': 64,
    'optim_wrapper.type': 'OptimWrapper',
    'train_cfg.max_epochs': 1,
}
TIED = {
    'model.backbone.type': 'halvit_mm.HaLViT',
    'model.backbone.gain': 'signed',
    'model.backbone.attn': 'like',
    'tie.held_out': 1,
    'tie.epochs': 8,
    'tie.lr': 3e-3,
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Images and a ViT that is tied in secret: q is k, and so on."""
    folder = tmp_path_factory.mktemp('tie')
    draw_dark_and_light(folder / 'data', 12)
    torch.manual_seed(0)
    model = build_model(load_config(str(CONFIG), SIZES))
    model.init_weights()
    for layer in model.backbone.layers:
        torch.nn.init.normal_(layer.ffn.layers[0][0].weight, std=0.2)
        torch.nn.init.normal_(layer.ffn.layers[1].weight, std=0.2)
    torch.save(dict(state_dict=model.state_dict()), folder / 'vit.pth')
    return folder


def options(folder, **more):
    return {**SIZES, **TIED, 'data_root': str(folder / 'data'), **more}


def test_the_tool(folder, tmp_path):
    given = [f'{k}={v}' for k, v in options(folder).items()]
    out, vit = tmp_path / 'out', folder / 'vit.pth'
    command = ('model_converters/tie_vit', CONFIG, vit, '--images', 16)
    said = tool(*command, out=out, options=given).stdout
    assert ' steps, error now at most ' in said
    assert 'of which variant' not in said  # that of the config, no guess
    assert 'layers.3.attn' in said and f'load_from={out}/tied.saf' in said
    cfg = load_config(str(CONFIG), options(folder))
    model = build_model(cfg)
    assert load_weights(model, str(out / 'tied.safetensors')) == 1.0
    twin = build_model(load_config(str(CONFIG), SIZES))
    load_weights(twin, str(vit))
    theirs, ours = twin.state_dict(), model.state_dict()
    for name in ('head.fc.weight', 'backbone.patch_embed.projection.weight'):
        assert torch.equal(theirs[name], ours[name])
    trained = tool(
        *('train', CONFIG),
        work_dir=tmp_path / 'train',
        options=[*given, f'load_from={out}/tied.safetensors'],
    )
    assert 'loaded 100.0% of the bytes' in trained.stdout


@pytest.mark.parametrize(
    ('attn', 'gain'),
    [
        *(('paper', 'none'), ('paper', 'signed'), ('like', 'signed')),
        *(('like', 'untied'), ('untied', 'none')),
    ],
)
def test_what_could_be_tied_stays_what_it_was(folder, tmp_path, attn, gain):
    """A ViT whose matrices are already equal in pairs is met exactly."""
    tying = {'model.backbone.attn': attn, 'model.backbone.gain': gain}
    cfg = load_config(str(CONFIG), options(folder, **tying))
    twin = build_model(load_config(str(CONFIG), SIZES))
    load_weights(twin, str(folder / 'vit.pth'))
    for layer in twin.backbone.layers:
        q, k, v = layer.attn.qkv.weight.data.chunk(3)
        out = layer.attn.proj.weight.data
        pairs = [(q, out.t()), (k, v.t())]
        if attn == 'like':
            pairs = [(q, k.t()), (v, out)]
        for one, two in pairs:
            two.copy_(one)
        first, second = layer.ffn.layers[0][0], layer.ffn.layers[1]
        second.weight.data.copy_(first.weight.t())
        if gain == 'signed':
            second.weight.data[:, ::2] *= -1  # any half of them
    torch.save(dict(state_dict=twin.state_dict()), tmp_path / 'twin.pth')
    config = read_settings(cfg, 'tie', 8, epochs=0)
    errors = tie(cfg, str(tmp_path / 'twin.pth'), config, tmp_path)
    untied = (attn == 'untied') + (gain == 'untied')
    assert len(errors) == 4 * (2 - untied)
    assert all(error.after < 1e-9 for error in errors)
    model = build_model(cfg).eval()
    load_weights(model, str(tmp_path / 'tied.safetensors'))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = twin.eval().extract_feat(images)[0]
        assert_close(model.extract_feat(images)[0], expected)


def test_calibration_helps_what_cannot_be_tied(folder, tmp_path):
    cfg = load_config(str(CONFIG), options(folder))
    config = read_settings(cfg, 'tie', 16)
    errors = tie(cfg, str(folder / 'vit.pth'), config, tmp_path)
    before, after = (sum(e[i] for e in errors) for i in (1, 2))
    assert after < 0.8 * before


def test_what_is_refused(folder, tmp_path):
    for options_, message in (
        ({'model.backbone.type': 'halvit_mm.PlainViT'}, 'is to be of a'),
        ({'model.backbone.gain': 'learnt'}, 'learnt gains cannot be fitted'),
        ({'model.backbone.hidden_shift': 8}, 'hidden_shift or'),
        (
            {'model.backbone.gain': 'untied', 'model.backbone.attn': 'untied'},
            'nothing to fit',
        ),
    ):
        cfg = load_config(str(CONFIG), options(folder))
        cfg.merge_from_dict(options_)
        config = read_settings(cfg, 'tie', 8)
        with pytest.raises(ValueError, match=message):
            tie(cfg, str(folder / 'vit.pth'), config, tmp_path)
