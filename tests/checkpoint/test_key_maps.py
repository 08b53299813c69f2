"""Names of weights elsewhere: tables in both directions."""

import re

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.models import ImageClassifier, VisionTransformerClsHead
from safetensors.torch import load_file
from torch import nn
from torch.testing import assert_close

from halvit_mm.checkpoint import KEY_MAPS, from_ours, to_ours
from halvit_mm.models import PlainViT
from tests.helpers import ARCH, build, randomise
from tests.tools.conftest import tool

MAKE = dict(
    mmpretrain=lambda: mmpretrain(), timm=lambda: Timm(), mae=lambda: Timm()
)
D, HEADS, LAYERS = ARCH['embed_dims'], ARCH['num_heads'], ARCH['num_layers']


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(D, 3 * D)
        self.proj = nn.Linear(D, D)

    def forward(self, x):
        q, k, v = (
            self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        )
        o = F.scaled_dot_product_attention(q, k, v)
        return self.proj(o.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(D, ARCH['feedforward_channels'])
        self.fc2 = nn.Linear(ARCH['feedforward_channels'], D)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(D, eps=1e-6) for _ in range(2))
        self.attn = Attention()
        self.mlp = MLP()

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Timm(nn.Module):
    """A ViT with timm's names, written anew.

    With ``pool='avg'`` the norm is behind the average, as MAE fine-tunes.
    """

    def __init__(self, pool='token'):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, D))
        self.pos_embed = nn.Parameter(torch.zeros(1, 17, D))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, D, 8, 8)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.pool = pool
        norm = nn.LayerNorm(D, eps=1e-6)
        setattr(self, 'norm' if pool == 'token' else 'fc_norm', norm)
        self.head = nn.Linear(D, 5)

    def forward(self, x):
        x = self.patch_embed.proj(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1)
        x = self.blocks(x + self.pos_embed)
        if self.pool == 'token':
            return self.head(self.norm(x)[:, 0])
        return self.head(self.fc_norm(x[:, 1:].mean(dim=1)))


class Ours(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.backbone = build(PlainViT, **options)
        self.head = VisionTransformerClsHead(5, D)

    def forward(self, x):
        feats = self.backbone(x)
        return self.head(tuple([None, f] for f in feats))


def mmpretrain(**options):
    """The host's own classifier."""
    backbone = dict(arch=ARCH, img_size=32, patch_size=8) | options
    return ImageClassifier(
        dict(type='VisionTransformer', **backbone),
        head=dict(
            type='VisionTransformerClsHead', num_classes=5, in_channels=D
        ),
    )


def decoder():
    """The weights of an MAE that are for pretraining only."""
    names = [name for name, ours in KEY_MAPS['mae'].items() if ours is None]
    return {name.replace('{}', '7'): torch.zeros(1) for name in names}


@pytest.fixture
def timm():
    return randomise(Timm()).eval()


AVERAGE = dict(out_type='avg_featmap', final_norm=False)


@pytest.mark.parametrize(
    ('source', 'make', 'options'),
    [
        ('timm', Timm, {}),
        ('timm', lambda: Timm('avg'), AVERAGE),
        ('mae', lambda: Timm('avg'), AVERAGE),
        ('mmpretrain', mmpretrain, {}),
        ('mmpretrain', lambda: mmpretrain(**AVERAGE), AVERAGE),
        (  # both norms
            'mmpretrain',
            lambda: mmpretrain(out_type='avg_featmap'),
            dict(out_type='avg_featmap'),
        ),
    ],
)
def test_a_model_computes_the_same_here(source, make, options):
    model = randomise(make()).eval()
    ours = Ours(**options).eval()
    ours.load_state_dict(to_ours(model.state_dict(), source))
    image = torch.randn(2, 3, 32, 32)
    assert_close(ours(image), model(image))


def test_a_backbone_starts_from_a_timm_file(timm, tmp_path):
    path = tmp_path / 'timm.pth'
    torch.save(dict(model=timm.state_dict()), path)
    init_cfg = dict(type='Pretrained', checkpoint=str(path), origin='timm')
    backbone = build(PlainViT, init_cfg=init_cfg).eval()
    backbone.init_weights()
    image = torch.randn(2, 3, 32, 32)
    assert_close(timm.head(backbone(image)[0]), timm(image))


def test_the_converter(timm, tmp_path):
    there = tmp_path / 'new folder' / 'ours.safetensors'
    back = tmp_path / 'timm2.pth'
    path = tmp_path / 'timm.pth'
    torch.save(timm.state_dict(), path)
    out = tool('model_converters/convert_keys', path, there)
    assert f'{path}: the names of timm' in out.stdout
    Ours().load_state_dict(load_file(there))
    tool('model_converters/convert_keys', there, back, '--to', 'timm')
    found = torch.load(back, weights_only=True)['state_dict']
    assert found.keys() == timm.state_dict().keys()
    assert all(torch.equal(found[k], v) for k, v in timm.state_dict().items())


@pytest.mark.parametrize('source', MAKE)
def test_round_trip(source):
    """There and back: the same names with the same weights."""
    model = MAKE[source]()
    state = randomise(model).state_dict()
    dropped = decoder() if source == 'mae' else {}
    there = to_ours({**state, **dropped}, source)
    assert there.keys() == Ours().state_dict().keys()
    back = from_ours(there, source)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[k], v) for k, v in state.items())


@pytest.mark.parametrize('target', MAKE)
def test_marks_of_ours_go_nowhere_else(target, said):
    """Models of other projects take the rest strictly."""
    model = MAKE[target]()
    ours = randomise(Ours(img_size=(16, 64)))  # 2 x 8, as many as 4 x 4
    state = ours.state_dict()
    assert state['backbone.pos_embed_grid'].tolist() == [2, 8]
    variant = {'backbone.variant': torch.zeros(32, dtype=torch.uint8)}
    found = from_ours({**state, **variant}, target)
    model.load_state_dict(found)
    name = 'backbone.pos_embed' if target == 'mmpretrain' else 'pos_embed'
    assert torch.equal(found[name], ours.backbone.pos_embed)
    assert said == [
        f'backbone.pos_embed_grid is dropped, for {target} has no such mark: '
        'build the model for (2, 8) tokens',
        f'backbone.variant is dropped, for {target} has no such mark',
    ]


def test_an_oblong_model_computes_the_same_in_mmpretrain(tmp_path, said):
    ours = randomise(Ours(img_size=(16, 64))).eval()
    here, there = tmp_path / 'ours.pth', tmp_path / 'host.pth'
    torch.save(ours.state_dict(), here)
    tool('model_converters/convert_keys', here, there, '--to', 'mmpretrain')
    host = mmpretrain(img_size=(16, 64)).eval()
    state = torch.load(there, weights_only=True)['state_dict']
    host.load_state_dict(state)
    image = torch.randn(2, 3, 16, 64)
    assert_close(host(image), ours(image))
    # the other way our names, marks among them, stay
    kept = to_ours(ours.state_dict(), 'mmpretrain')
    assert kept.keys() == ours.state_dict().keys()


@pytest.mark.parametrize('source', KEY_MAPS)
def test_tables_go_both_ways(source):
    """No two names become one, but those of one thing in several models."""
    entries = [e for e in KEY_MAPS[source].values() if e is not None]
    assert len(set(entries)) - len(entries) in (0, -2)
    for entry in entries:
        name = entry if isinstance(entry, str) else entry.name
        assert re.fullmatch(r'(backbone|head)\..*', name)


def test_mae_loses_its_decoder(timm):
    state = {k: v for k, v in timm.state_dict().items() if 'head' not in k}
    assert len(decoder()) > 10
    found = to_ours({**state, **decoder()}, 'mae')
    expected = {k for k in Ours().state_dict() if k.startswith('backbone.')}
    assert found.keys() == expected


def test_many_layers():
    name = 'blocks.11.mlp.fc1.weight'
    expected = 'backbone.layers.11.ffn.layers.0.0.weight'
    assert list(to_ours({name: 0}, 'timm')) == [expected]
    assert list(from_ours({expected: 0}, 'timm')) == [name]


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: to_ours({}, 'jax'), "'jax': choose one of"),
        (
            lambda: to_ours({'cls': 0}, 'timm'),
            r"1 names are not in the table of timm: \['cls'\]",
        ),
        (
            lambda: from_ours(
                {
                    'backbone.register_tokens': torch.zeros(1, 2, 1),
                    'backbone.pos_embed': torch.zeros(1, 5, 1),
                },
                'timm',
            ),
            '2 register tokens: only one can be the distillation token',
        ),
        (
            lambda: from_ours({'backbone.layers.0.attn.q.weight': 0}, 'timm'),
            'not in the table of timm',
        ),
        (
            lambda: to_ours({'pre_logits.fc.weight': 0}, 'timm'),
            'has no pre-logits layer in front of the head: take a file with',
        ),
        (
            lambda: to_ours({'head.layers.pre_logits.bias': 0}, 'mmpretrain'),
            'has no pre-logits layer',
        ),
        (
            lambda: to_ours({'backbone.layers.0.what': 0}, 'mmpretrain'),
            r"mmpretrain: \['backbone.layers.0.what'\]; if they are not need",
        ),
        (
            lambda: to_ours(
                {'blocks.0.0.norm1.bias': 0, 'blocks.1.0.norm1.bias': 0},
                'dinov2',
            ),
            "'blocks.1.0.norm1.bias' and another name are both backbone.layer",
        ),
        (
            lambda: to_ours(
                {
                    'encoder.layer.0.attention.attention.query.bias': 0,
                    'encoder.layer.0.attention.attention.value.bias': 0,
                },
                'transformers-vit',
            ),
            'layers.0.attn.qkv.bias: one of q, k and v is missing',
        ),
        (
            lambda: to_ours(
                {
                    'blocks.0.attn.proj.bias': torch.ones(3),
                    'blocks.0.ls1.gamma': torch.ones(2),
                },
                'timm-dinov2',
            ),
            r'LayerScale has the shape \(2,\), but there are 3 rows',
        ),
    ],
)
def test_messages(call, message):
    with pytest.raises(ValueError, match=message):
        call()
