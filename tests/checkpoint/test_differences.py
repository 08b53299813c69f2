"""What a file lacks or has beyond the model is refused, or named."""

import re

import pytest
import torch
from mmpretrain.models.backbones import VisionTransformer

from halvit_mm.checkpoint import load_weights
from halvit_mm.models import HaLViT, PlainViT, TiedResNet
from tests.helpers import ARCH, build, randomise

RESNET = dict(stem_channels=4, base_channels=4)


def tiny_resnet():
    return randomise(TiedResNet(**RESNET))


def state_of(cls=PlainViT, **kwargs):
    return randomise(build(cls, **kwargs)).state_dict()


def load(state, tmp_path, module, **kwargs):
    path = tmp_path / 'file.pth'
    torch.save(state, path)
    return load_weights(module, str(path), **kwargs)


OTHERS = {
    'norm before the layers': (
        lambda: {
            **state_of(),
            **state_of(VisionTransformer, pre_norm=True),
        },
        'pre_norm.weight',
    ),
    'learnt gains': (
        lambda: {**state_of(), 'layers.0.ffn.gain.weight': torch.ones(64)},
        'layers.0.ffn.gain.weight',
    ),
    'more layers': (
        lambda: state_of(arch=dict(ARCH, num_layers=4)),
        'layers.3.ln1.weight',
    ),
    # names of heads and counters, but inside of layers
    **{
        f'a {part} in a layer': (
            lambda part=part: {
                **state_of(),
                f'layers.2.{part}.weight': torch.ones(3),
            },
            f'layers.2.{part}.weight',
        )
        for part in ('fc', 'head', 'extra_head', 'decoder', 'mask_token')
    },
    'a norm behind the layers': (
        lambda: state_of(),
        'ln1.weight',
    ),
    'no head, but part of a head that is here': (
        lambda: {**state_of(), 'head.more.weight': torch.ones(3)},
        'head.more.weight',
    ),
}


@pytest.mark.parametrize('what', OTHERS)
def test_what_the_model_does_not_know_is_refused(what, tmp_path):
    state, name = OTHERS[what][0](), OTHERS[what][1]
    ours = build(PlainViT, final_norm=what != 'a norm behind the layers')
    if 'head that is here' in what:
        ours.head = torch.nn.Linear(32, 3)
        state.update({'head.weight': torch.ones(3, 32)})
        state.update({'head.bias': torch.ones(3)})
    before = ours.layers[0].ffn.layers[1].weight.clone()
    message = f'(?s)names are not known here .*{re.escape(name)}'
    with pytest.raises(ValueError, match=message) as info:
        load(state, tmp_path, ours)
    assert 'change what the model computes' in str(info.value)
    assert f'ignore=[{name!r}' in str(info.value)
    assert torch.equal(ours.layers[0].ffn.layers[1].weight, before)
    extra = [k for k in state if k not in ours.state_dict()]
    assert load(state, tmp_path, ours, ignore=extra) == 1.0
    assert not torch.equal(ours.layers[0].ffn.layers[1].weight, before)


def test_what_is_beside_the_model_is_named(tmp_path, said):
    extra = {
        'head.fc.weight': 2,
        'mask_token': 3,
        'decoder_blocks.0.norm1.weight': 2,
        'ln2.weight': 32,  # behind the average of a classifier
        'ema_layers_0_ln1_weight': 3,
        'data_preprocessor.mean': 3,
        'stem.norm.num_batches_tracked': 1,
    }
    extra = {name: torch.ones(size) for name, size in extra.items()}
    ours = build(PlainViT)
    assert load({**state_of(), **extra}, tmp_path, ours) == 1.0
    (line,) = [line for line in said if 'not needed by PlainViT' in line]
    assert '(7)' in line
    assert all(name in line for name in extra)


MISSING = {
    'weights: 1, biases: 1': lambda name: name.startswith('patch_embed'),
    'weights: 1': lambda name: name == 'layers.1.attn.qkv.weight',
    'position embeddings: 1': lambda name: name == 'pos_embed',
    'biases: ': lambda name: name.endswith('bias') and 'ln' not in name,
    'norms: ': lambda name: 'ln' in name,
}


@pytest.mark.parametrize('kind', MISSING)
def test_what_a_model_needs_is_not_missing(kind, tmp_path, said):
    """Whatever its share of the bytes, here less than ten per cent."""
    state = state_of(img_size=16, arch=dict(ARCH, feedforward_channels=4096))
    left_out = [name for name in state if MISSING[kind](name)]
    for name in left_out:
        del state[name]
    ours = build(
        PlainViT, img_size=16, arch=dict(ARCH, feedforward_channels=4096)
    )
    with pytest.raises(ValueError, match=r'covers (9\d\.\d|100\.0)%') as info:
        load(state, tmp_path, ours)
    assert f'missing ({len(left_out)}): ' in str(info.value)
    assert kind in str(info.value) and left_out[0] in str(info.value)
    assert f'name them with ignore=[{left_out[0]!r}' in str(info.value)
    assert not said
    # who knows asks for less, or names what may be missing
    assert load(state, tmp_path, ours, min_coverage=0.9) > 0.95
    assert f'missing ({len(left_out)}): ' in said[-1]
    assert load(state, tmp_path, ours, ignore=left_out) == 1.0


@pytest.mark.parametrize(
    'name', ['patch_embed.projection.weight', 'layers.1.attn.q.weight']
)
def test_a_pretrained_backbone_is_complete(name, tmp_path):
    state, path = state_of(HaLViT), str(tmp_path / 'file.pth')
    del state[name]
    torch.save({f'backbone.{k}': v for k, v in state.items()}, path)

    def start(**options):
        init_cfg = dict(type='Pretrained', checkpoint=path, **options)
        backbone = build(HaLViT, init_cfg=init_cfg)
        backbone.init_weights()
        return backbone

    with pytest.raises(ValueError, match=rf"(?s)missing \(1\): \['{name}'"):
        start()
    for options in (dict(min_coverage=0.5), dict(ignore=[name])):
        assert torch.equal(start(**options).pos_embed, state['pos_embed'])


def test_a_detector_is_complete(tmp_path):
    def detector():
        head = torch.nn.Conv2d(32, 4, 1)
        return torch.nn.ModuleDict(
            dict(backbone=randomise(build(PlainViT)), rpn_head=head)
        )

    state, ours = detector().state_dict(), detector()
    del state['rpn_head.weight']
    with pytest.raises(ValueError, match=r"missing \(1\): \['rpn_head.weight"):
        load(state, tmp_path, ours)
    assert load(state, tmp_path, ours, ignore=['rpn_head']) == 1.0


def test_a_cls_token_of_ours_does_not_count_as_theirs(tmp_path):
    detection = dict(with_cls_token=False, out_type='featmap')
    state, ours = state_of(**detection), build(PlainViT)
    message = r"(?s)missing \(1\): \['cls_token'\].*ignore=\['cls_token'"
    with pytest.raises(ValueError, match=message):
        load(state, tmp_path, ours)
    before = ours.cls_token.clone()
    assert load(state, tmp_path, ours, ignore=['cls_token']) == 1.0
    assert torch.equal(ours.cls_token, before)
    assert torch.equal(ours.pos_embed[:, 1:], state['pos_embed'])


NAME = 'layers.1.ffn.layers.1.weight'


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_no_numbers_are_refused(value, tmp_path):
    state, ours = state_of(), build(PlainViT)
    state[NAME][3, 4] = value
    before = ours.ln1.bias.clone()
    message = rf"NaN or infinity in weights \(1\): \['{NAME}'\]"
    with pytest.raises(ValueError, match=f'file.pth: {message}'):
        load(state, tmp_path, ours)
    assert torch.equal(ours.ln1.bias, before)
    assert load(state, tmp_path, ours, ignore=[NAME]) == 1.0
    # of no consequence where it is not loaded
    state = dict(state_of(), mask_token=torch.tensor([value]))
    assert load(state, tmp_path, ours) == 1.0


@pytest.mark.parametrize('dtype', ['int8', 'uint8', 'bool', 'float8_e4m3fn'])
def test_quantised_weights_are_refused(dtype, tmp_path):
    state = state_of()
    state[NAME] = state[NAME].to(getattr(torch, dtype))
    message = rf"quantised weights \(1\): \['{NAME} \(torch.{dtype}, here"
    with pytest.raises(ValueError, match=f'file.pth: {message}'):
        load(state, tmp_path, build(PlainViT))


def test_a_batch_norm_needs_its_statistics(tmp_path):
    state = tiny_resnet().state_dict()
    for name in [name for name in state if 'running_' in name]:
        del state[name]
    with pytest.raises(ValueError, match=r'missing .*statistics: \d+'):
        load(state, tmp_path, tiny_resnet())


def test_counters_of_batch_norm_may_be_missing(tmp_path, said):
    state = tiny_resnet().state_dict()
    for name in [name for name in state if 'num_batches' in name]:
        del state[name]
    assert load(state, tmp_path, tiny_resnet()) == 1.0
    assert len(said) == 1


def test_a_norm_behind_the_average_is_not_the_one_before_it(tmp_path):
    """MAE's fc_norm is our ln2; a model with ln1 needs another file."""
    fine_tuned = state_of(out_type='avg_featmap', final_norm=False)
    with pytest.raises(ValueError, match=r"missing \(2\): \['ln1.weight'"):
        load(fine_tuned, tmp_path, build(PlainViT))
    ours = build(PlainViT, out_type='avg_featmap', final_norm=False)
    assert load(fine_tuned, tmp_path, ours) == 1.0


@pytest.mark.parametrize(
    'options',
    [dict(gain='signed'), dict(hidden_shift=1), dict(attn='like')],
)
@pytest.mark.parametrize('reverse', [False, True])
def test_another_tying_is_refused(options, reverse, tmp_path):
    """The names are the same, the function is another one."""
    pair = [build(HaLViT), build(HaLViT, **options)]
    theirs, ours = reversed(pair) if reverse else pair
    with pytest.raises(ValueError, match='file.pth: .* of the variant'):
        load(theirs.state_dict(), tmp_path, ours)


def test_a_file_without_its_tying_loads_and_says_so(tmp_path, said):
    state = state_of(HaLViT)
    del state['variant']
    assert load(state, tmp_path, build(HaLViT)) == 1.0
    assert len([line for line in said if 'of which variant' in line]) == 1
    build(HaLViT).load_state_dict(state)  # strictly, too


@pytest.mark.parametrize('cls', [PlainViT, VisionTransformer])
def test_a_part_of_a_model_adapts_its_own_weights(cls, tmp_path):
    """As the backbone of a detector does, at another size."""
    theirs, ours = (
        torch.nn.ModuleDict(dict(backbone=randomise(build(cls, **size))))
        for size in (dict(), dict(img_size=(48, 64)))
    )
    assert load(theirs.state_dict(), tmp_path, ours, min_coverage=1.0) == 1.0
    same = build(cls, img_size=(48, 64))
    same.load_state_dict(theirs.backbone.state_dict())
    assert torch.equal(ours.backbone.pos_embed, same.pos_embed)
