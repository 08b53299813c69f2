"""ViTs whose layers share weights, against twins that hold copies."""

import copy

import pytest
import torch
from torch.testing import assert_close

from halvit_mm.apis.model_info import count_parameters
from halvit_mm.models import GroupedViT, HaLViT, PlainViT, SharedHaLViT
from tests.helpers import (
    DETECTION,
    assert_one_owner,
    build,
    gradients,
    loss_of,
    num_params,
    randomise,
)

from .sharing_vits import ARCH4, IMAGE, KINDS, ready


def twin_name(kind, name):
    """Name in the unshared twin -> where the shared model has the value."""
    cls, options = KINDS[kind]
    if not name.startswith('layers.'):
        return [name]
    _, index, rest = name.split('.', 2)
    if cls is SharedHaLViT:
        return [name, f'shared.{rest}']
    group = int(index) // options.get('group_size', 2)
    return [name, f'groups.{group}.{rest}']


def untied_twin(options):
    """The class of a twin of a GroupedViT, and its options."""
    tying = {k: v for k, v in options.items() if k in ('attn', 'gain')}
    if not tying:
        return PlainViT, {}
    return HaLViT, {'gain': 'untied', **tying}


def unshared(kind, model, **kwargs):
    """A twin with a copy of every shared weight in each layer."""
    cls, options = KINDS[kind]
    if cls is SharedHaLViT:
        gain = options.get('gain', 'none')
        twin = build(HaLViT, arch=ARCH4, gain=gain, **kwargs)
    else:
        twin_cls, tying = untied_twin(options)
        twin = build(twin_cls, arch=ARCH4, **tying, **kwargs)
    values = model.state_dict()
    state = {}
    for name in twin.state_dict():
        (found,) = (n for n in twin_name(kind, name) if n in values)
        state[name] = values[found].clone()
    twin.load_state_dict(state)
    return twin


@pytest.mark.parametrize(
    ('cls', 'options', 'expected'),
    [
        # 12 (D^2 + D) own; 5 D^2 shared and 12 D in vectors; the stem's
        # 768 D + D + 197 D, cls token D, final norm 2 D; D = 768
        (SharedHaLViT, dict(arch='medium'), 10_789_632),
        # 12 (D^2 + 13 D) own, 5 D^2 shared
        (SharedHaLViT, dict(arch='medium', share_vectors=False), 10_891_008),
        # ViT-B's 86,567,656 less 6 FFNs of 8 D^2 + 5 D, without the head
        (
            GroupedViT,
            dict(arch='deit-base', shares=['ffn']),
            58_233_064 - 769_000,
        ),
        # 6 * 12 D^2 and 12 * 13 D: as many as HaLViT-M
        (
            GroupedViT,
            dict(arch='deit-base', share_vectors=False),
            43_331_328,
        ),
        # 12 * 2 D^2 and 6 * 8 D^2: the same
        (
            GroupedViT,
            dict(
                arch='deit-base',
                attn='like',
                shares=['ffn'],
                share_vectors=False,
            ),
            43_331_328,
        ),
        # 6 * 6 D^2: 21,233,664 less
        (
            GroupedViT,
            dict(
                arch='deit-base',
                attn='like',
                gain='signed',
                share_vectors=False,
            ),
            22_097_664,
        ),
        # ShallowMLP: less 12 * (4 D^2 + 2 D)
        (
            PlainViT,
            dict(
                arch=dict(
                    embed_dims=768,
                    num_layers=12,
                    num_heads=12,
                    feedforward_channels=1536,
                )
            ),
            58_237_672 - 769_000,
        ),
    ],
)
def test_number_of_parameters(cls, options, expected):
    assert num_params(cls(**options)) == expected


@pytest.mark.parametrize('options', [{}, DETECTION, dict(with_cp=True)])
@pytest.mark.parametrize('kind', KINDS)
def test_equals_a_twin_with_copies(kind, options):
    """Values, and gradients: those of the copies, added up."""
    model = ready(kind, **options).train()
    twin = unshared(kind, model, **options).train()
    actual, expected = model(IMAGE), twin(IMAGE)
    assert_close(actual, expected)
    loss_of(actual).backward()
    loss_of(expected).backward()
    own = gradients(model)
    sums = dict.fromkeys(own, 0)
    for name, grad in gradients(twin).items():
        (found,) = (n for n in twin_name(kind, name) if n in own)
        sums[found] = sums[found] + grad
    for name, grad in own.items():
        assert_close(grad, sums[name], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('kind', KINDS)
def test_effective_parameters_are_those_of_an_untied_vit(kind):
    stored, effective = count_parameters(ready(kind))
    assert stored == num_params(ready(kind))
    untied = num_params(build(PlainViT, arch=ARCH4))
    gains = 4 * (32 + 64) if kind == 'shared-learnt' else 0
    assert effective == untied + gains


CHANGES = {
    'init_weights': lambda m: m.init_weights() or m,
    'deepcopy': copy.deepcopy,
    'load_state_dict': lambda m: (
        m.load_state_dict(randomise(copy.deepcopy(m)).state_dict()) and m
    ),
    'to': lambda m: m.to(torch.float64),
}


@pytest.mark.parametrize('change', CHANGES)
@pytest.mark.parametrize('kind', KINDS)
def test_every_weight_keeps_one_owner(kind, change):
    model = CHANGES[change](ready(kind))
    assert_one_owner(model)
    cls, options = KINDS[kind]
    fresh = build(cls, arch=ARCH4, **options).to(model.pos_embed.dtype)
    fresh.load_state_dict(model.state_dict())
    image = IMAGE.to(model.pos_embed.dtype)
    assert_close(fresh(image), model(image), rtol=0, atol=0)


@pytest.mark.parametrize('kind', KINDS)
def test_starts_as_its_twin_does(kind):
    """Of the same distributions: Xavier in the FFN, its biases small."""
    model = ready(kind)
    model.init_weights()
    for name, param in model.named_parameters():
        if 'ffn' not in name or 'gain' in name:
            continue
        if param.ndim == 2:
            fan = sum(param.shape)
            bound = (6 / fan) ** 0.5
            assert 0.9 * bound < param.abs().max() <= bound, name
        else:
            assert 0 < param.abs().max() < 1e-5, name


@pytest.mark.parametrize(
    ('kind', 'frozen', 'message'),
    [
        ('shared', 2, 'all 4 layers share weights'),
        ('grouped', 1, 'a multiple of group_size=2'),
    ],
)
def test_shared_weights_are_frozen_together(kind, frozen, message):
    with pytest.raises(ValueError, match=message):
        ready(kind, frozen_stages=frozen)


@pytest.mark.parametrize(('kind', 'frozen'), [('shared', 4), ('grouped', 2)])
def test_a_step_moves_what_is_not_frozen(kind, frozen):
    model = ready(kind, frozen_stages=frozen).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    trained = [p for p in model.parameters() if p.requires_grad]
    if kind == 'grouped':
        loss_of(model(IMAGE)).backward()
        assert all(p.grad is not None for p in trained)
        torch.optim.AdamW(model.parameters(), lr=0.1).step()
        moved = [
            name
            for name, value in model.state_dict().items()
            if not torch.equal(value, before[name])
        ]
        assert {n.split('.')[1] for n in moved if 'groups' in n} == {'1'}
    else:
        assert not trained
    assert not any(m.training for m in model.layers[:frozen])


def test_depth_of_what_is_shared_is_that_of_its_last_user():
    depth = ready('grouped').get_layer_depth
    assert depth('groups.0.ffn.layers.1.weight') == depth('layers.1.a')
    assert depth('m.groups.1.ffn.x', 'm.') == depth('layers.3.a')
    assert depth('layers.0.a')[0] == 1
    depth = ready('shared').get_layer_depth
    assert depth('shared.ffn.tied.weight') == depth('layers.3.a')
    assert depth('pos_embed')[0] == 0


def test_groups_divide_the_layers():
    with pytest.raises(ValueError, match='group_size=3 does not divide 4'):
        ready('grouped', group_size=3)


@pytest.mark.parametrize('shares', [(), ('ln1',), ('ffn', 'q')])
def test_groups_share_attention_and_ffn_only(shares):
    with pytest.raises(ValueError, match="choose of .'attn', 'ffn'."):
        ready('grouped', shares=shares)


def test_layers_that_share_attention_share_its_windows():
    windows = dict(**DETECTION, window_size=2, window_block_indexes=[1, 2, 3])
    with pytest.raises(ValueError, match='layer 1 shares attention with laye'):
        ready('grouped-layers', **windows)
    for kind in ('grouped-matrices', 'grouped'):
        model = ready(kind, **windows)
        sizes = [layer.attn.window_size for layer in model.layers]
        assert sizes == [0, 2, 2, 2]
