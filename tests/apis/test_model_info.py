"""Parameters, sizes and multiply-adds against known figures."""

import io
from functools import cache

import pytest
import torch

from halvit_mm.apis import (
    load_config,
    model_info,
    narrow_config,
    print_model_info,
)
from halvit_mm.apis.model_info import build_model, count_parameters

from ..commands import ROOT

SMALL = (64, 96)  # height and width for detectors, for speed


def load(name, **options):
    return load_config(str(ROOT / f'configs/{name}.py'), options)


@cache
def info(name, size=None):
    """The rows of a config by name."""
    return {row.name: row for row in model_info(load(name), size)}


@pytest.mark.parametrize(
    ('name', 'macs', 'with_attention'),
    [
        ('halvit_t', 4_240_834_560, 4_598_498_304),
        ('halvit_m', 16_847_732_736, 17_563_060_224),
    ],
)
def test_multiply_adds_at_224_pixels(name, macs, with_attention):
    row = info(f'pretrain/{name}_in1k')['backbone']
    assert row.macs == macs
    assert row.macs + row.attention_macs == with_attention


def test_tying_changes_nothing_but_what_is_stored():
    tied = info('pretrain/halvit_t_in1k')['backbone']
    untied = info('pretrain/vit_s_in1k')['backbone']
    assert tied.stored == 11_048_832
    assert tied.effective == untied.effective == untied.stored == 21_665_664
    assert tied.macs == untied.macs
    assert tied.attention_macs == untied.attention_macs


def test_parts_make_up_the_total():
    rows = dict(info('maskrcnn_halvit_t', SMALL))
    total = rows.pop('total')
    assert list(rows) == ['backbone', 'neck', 'rpn_head', 'roi_head']
    for field in total._fields[1:]:
        parts = sum(getattr(row, field) for row in rows.values())
        assert getattr(total, field) == pytest.approx(parts, rel=1e-9)
        assert parts > 0
    # Called through its methods, so counted from its children.
    assert rows['roi_head'].macs > 0
    assert rows['backbone'].attention_macs > 0


def test_multiply_adds_grow_with_the_image():
    # Twice the tokens: twice the work, and four times the attention.
    small, large = (
        info('demo/maskrcnn_halvit_shapes', size)['backbone']
        for size in (SMALL, (128, 96))
    )
    assert large.macs == 2 * small.macs
    assert large.attention_macs == 4 * small.attention_macs


@pytest.mark.parametrize(
    ('name', 'options', 'stored'),
    [
        ('maskrcnn_halvit_t', {}, 31_890_128),
        (
            'maskrcnn_halvit_t',
            {'model.backbone.with_cls_token': True},
            31_890_896,
        ),
        ('maskrcnn_halvit_m', {}, 66_433_712),
    ],
)
def test_parameters_of_mask_rcnn(name, options, stored):
    model = build_model(load(name, **options))
    assert count_parameters(model)[0] == stored


@pytest.mark.parametrize(
    ('name', 'tied', 'width'),
    [
        ('studies/vit_cifar10', 238_378, 68),
        ('studies/vit_cifar10_long', 1_813_834, 136),
        ('maskrcnn_vit_s', 31_890_128, None),
    ],
)
def test_narrow_nets_store_as_much_as_tied_ones(name, tied, width):
    """The widest that stores no more; one step wider stores more."""
    cfg = load(name)
    narrow = narrow_config(cfg, tied)
    found = narrow.model.backbone.arch.embed_dims
    assert found == width or width is None
    stored = count_parameters(build_model(narrow))[0]
    assert 0.95 * tied < stored <= tied
    wider = narrow_config(cfg, tied + tied // 8)
    assert wider.model.backbone.arch.embed_dims > found


def test_what_cannot_be_narrowed():
    with pytest.raises(ValueError, match='TiedResNet is no ViT'):
        narrow_config(load('pretrain/resnet50_pe2_in1k'), 10**6)
    with pytest.raises(ValueError, match='no width that is a multiple of 4'):
        narrow_config(load('studies/vit_cifar10'), 100)


def test_frozen_parameters_count():
    cfg = load('demo/halvit_shapes', **{'model.backbone.frozen_stages': 2})
    frozen, free = (
        count_parameters(build_model(c))
        for c in (cfg, load('demo/halvit_shapes'))
    )
    assert frozen == free


def test_megabytes_are_those_of_the_file():
    name = 'maskrcnn_halvit_t'
    file = io.BytesIO()
    torch.save(build_model(load(name)).state_dict(), file)
    size = len(file.getvalue()) / 1e6
    megabytes = info(name, SMALL)['total'].megabytes
    assert megabytes == pytest.approx(size, rel=0.01)


def test_table_shows_both_counts_and_both_sums(capsys):
    row = info('pretrain/halvit_t_in1k')['backbone']
    print_model_info('a title', (224, 224), [row])
    output = capsys.readouterr().out
    assert 'a title, one image of 224 x 224' in output
    for figure in ('11,048,832', '21,665,664', '44.2', '4.24', '4.60'):
        assert figure in output
