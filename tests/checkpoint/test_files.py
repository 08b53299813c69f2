"""Files of ours: whole, checked, with a header that names known types."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from halvit_mm.apis.predict.model import load_model
from halvit_mm.checkpoint import (
    header_model,
    header_pipeline,
    load_content,
    load_weights,
    model_types,
    read_header,
    read_state_dict,
    read_weights,
    save_weights,
)
from halvit_mm.models import GroupedViT, HaLViT
from halvit_mm.weights import load_from_data_only
from tests.helpers import ARCH, build, randomise

ROOT = Path(__file__).parents[2]
SUFFIXES = ['pth', 'safetensors']
HEADER = dict(
    classes=('disc', 'square'),
    palette=[(1, 2, 3), (4, 5, 6)],
    variant='signed',
    model=dict(type='MaskRCNN', backbone=dict(type='halvit_mm.HaLViT')),
)


def header_in(path):
    if path.suffix == '.safetensors':
        assert read_header(path) is not None
        with safe_open(path, framework='pt') as file:
            return json.loads(file.metadata()['halvit_mm'])
    return torch.load(path, weights_only=True)['halvit_mm']


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_both_formats_have_one_header(suffix, tmp_path):
    path = tmp_path / 'new' / 'folder' / f'file.{suffix}'
    state = randomise(build(HaLViT)).state_dict()
    save_weights(path, state, **HEADER)
    header = header_in(path)
    assert list(header) == [
        'format',
        'version',
        'sha256',
        'classes',
        'palette',
        'variant',
        'model',
        'test_pipeline',
    ]
    assert header['format'] == 'dense' and header['version'] == 2
    assert header['classes'] == ['disc', 'square']
    assert header['palette'] == [[1, 2, 3], [4, 5, 6]]
    assert header['model'] == HEADER['model']
    weights = read_weights(path)
    assert weights.header == header
    assert_close(weights.state_dict, dict(state), rtol=0, atol=0)
    assert load_weights(build(HaLViT), path) == 1.0
    meta = dict(dataset_meta={k: header[k] for k in ('classes', 'palette')})
    if suffix == 'pth':  # for the hosts
        assert torch.load(path, weights_only=True)['meta'] == meta
    else:
        assert load_from_data_only(str(path))['meta'] == meta


@pytest.mark.parametrize('gain', ['none', 'signed'])
def test_the_variant_of_a_tying_is_in_the_header(gain, tmp_path):
    model = build(HaLViT, gain=gain)
    header = save_weights(tmp_path / 'file.pth', model.state_dict())
    assert header['variant'] == gain


def test_both_formats_have_one_checksum(tmp_path):
    state = build(HaLViT).state_dict()
    sums = {
        save_weights(tmp_path / f'file.{suffix}', state)['sha256']
        for suffix in SUFFIXES
    }
    assert len(sums) == 1


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_a_changed_weight_is_found(suffix, tmp_path):
    path = tmp_path / f'file.{suffix}'
    header = save_weights(path, dict(a=torch.ones(3)))
    if suffix == 'pth':
        content = torch.load(path, weights_only=True)
        content['state_dict']['a'][1] = 2
        torch.save(content, path)
    else:
        text = {'halvit_mm': json.dumps(header)}
        save_file(dict(a=torch.ones(3) * 2), path, text)
    with pytest.raises(ValueError, match='its checksum does not fit'):
        read_state_dict(path)


def test_a_later_version_is_refused(tmp_path):
    path = tmp_path / 'file.safetensors'
    text = {'halvit_mm': json.dumps(dict(version=9))}
    save_file(dict(a=torch.ones(3)), path, text)
    for read in (read_header, read_state_dict):
        with pytest.raises(ValueError, match='version 9 .*reads version 2'):
            read(path)


@pytest.mark.parametrize('text', ['', '[]', '{}', 'null'])
def test_a_damaged_header_is_refused_by_name(text, tmp_path):
    path = tmp_path / 'file.safetensors'
    save_file(dict(a=torch.ones(3)), path, {'halvit_mm': text})
    with pytest.raises(ValueError, match='file.safetensors: its header is da'):
        read_state_dict(path)


def test_the_name_decides_the_format(tmp_path):
    with pytest.raises(ValueError, match=r'file.npz: .* ends in one of'):
        save_weights(tmp_path / 'file.npz', dict(a=torch.ones(3)))
    save_weights(tmp_path / 'file.bin', dict(a=torch.ones(3)))
    assert 'state_dict' in torch.load(tmp_path / 'file.bin', weights_only=True)


def test_two_names_of_one_tensor(tmp_path):
    weight = torch.arange(6.0)
    tensors = dict(a=weight, b=weight, c=weight[2:].view(2, 2))
    save_weights(tmp_path / 'file.safetensors', tensors)
    assert_close(load_file(tmp_path / 'file.safetensors'), tensors)


@pytest.mark.parametrize(
    ('model', 'message'),
    [
        (['MaskRCNN'], 'is to be a dict with a type'),
        (dict(backbone=dict(type='HaLViT')), 'is to be a dict with a type'),
        (dict(type='os.system'), "model.type in its header is 'os.system'"),
        (dict(type='mmdet.os.system'), "header is 'mmdet.os.system'"),
        (
            dict(type='MaskRCNN', neck=[dict(a=dict(type='print'))]),
            "model.neck.0.a.type in its header is 'print'",
        ),
        (dict(type=['MaskRCNN']), r"model.type .* is \['MaskRCNN'\]"),
        (dict(type='MaskRCNN', size=torch.ones(1)), 'size .* is a Tensor'),
        (
            dict(type='HaLViT', init_cfg=dict(type='Pretrained')),
            "model.init_cfg.type in its header is 'Pretrained'",
        ),
    ],
)
def test_a_model_in_a_header_names_known_types_only(model, message, tmp_path):
    path = tmp_path / 'file.pth'
    with pytest.raises(ValueError, match=f'file.pth: .*{message}'):
        save_weights(path, dict(a=torch.ones(3)), model=model)
    assert not path.exists()
    header = save_weights(path, dict(a=torch.ones(3)))
    content = torch.load(path, weights_only=True)
    content['halvit_mm'] = dict(header, model=model)
    torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        read_state_dict(path)


def test_weights_of_a_type_that_was_renamed_load(tmp_path):
    """A model is built from the header by its new name only."""
    options = dict(arch=dict(ARCH, num_layers=4), shares=['ffn'])
    model = randomise(build(GroupedViT, **options))
    path = tmp_path / 'old.safetensors'
    header = save_weights(path, model.state_dict())
    backbone = dict(type='halvit_mm.GroupedMLPViT')
    header['model'] = dict(type='MaskRCNN', backbone=backbone)
    tensors = load_file(path)
    save_file(tensors, path, {'halvit_mm': json.dumps(header)})
    other = build(GroupedViT, **options)
    load_weights(other, str(path))
    assert_close(dict(other.state_dict()), dict(model.state_dict()))
    with pytest.raises(ValueError, match="GroupedViT with shares=.'ffn'"):
        load_model(str(path))


def test_the_models_of_the_configs_are_known():
    """A type that a new config uses goes into the list."""
    paths = list((ROOT / 'configs').glob('*.py'))
    assert len(paths) > 5
    for path in paths:
        cfg = Config.fromfile(path)
        if 'model' in cfg:
            found = header_model(cfg.model.to_dict(), path)
            assert found['type'] == cfg.model.type
            assert 'Pretrained' not in str(found)


def test_a_model_for_a_header_has_no_files(monkeypatch):
    said = []
    monkeypatch.setattr(model_types, 'say', said.append)
    init = dict(type='Pretrained', checkpoint='x.pth')
    keep = [dict(type='Constant', layer='Conv2d')]
    backbone = dict(type='CompressedBackbone', checkpoint='y.safetensors')
    model = dict(
        type='MaskRCNN',
        backbone=dict(backbone, backbone=dict(type='HaLViT', init_cfg=init)),
        neck=dict(type='FPN', init_cfg=keep, scales=(1, 2)),
        init_cfg=[init],
    )
    assert header_model(model, Path('z.pth')) == dict(
        type='MaskRCNN',
        backbone=dict(
            type='CompressedBackbone',
            checkpoint=None,
            backbone=dict(type='HaLViT', init_cfg=None),
        ),
        neck=dict(type='FPN', init_cfg=keep, scales=[1, 2]),
        init_cfg=None,
    )
    assert not said
    assert header_model(dict(type='os.system'), Path('z.pth')) is None
    assert "no model: z.pth: model.type in its header is 'os.sy" in said[0]


def test_a_pipeline_for_a_header_reads_images_only(monkeypatch):
    said = []
    monkeypatch.setattr(model_types, 'say', said.append)
    resize = dict(type='mmdet.Resize', scale=(1333, 800))
    steps = [resize, dict(type='LoadAnnotations', with_mask=True)]
    assert header_pipeline(steps, Path('z.pth')) == [resize]
    assert not said
    steps.append(dict(type='os.system', command='rm'))
    assert header_pipeline(steps, Path('z.pth')) is None
    assert 'no test pipeline: z.pth: model.type in its header is' in said[0]


@pytest.mark.parametrize('pipeline', [[dict(type='os.system')], 'Resize'])
def test_a_pipeline_is_checked_when_it_is_read(pipeline, tmp_path):
    tensors = dict(weight=torch.ones(2))
    path = tmp_path / 'a.pth'
    header = save_weights(path, tensors)
    with pytest.raises(ValueError, match='in its header is'):
        save_weights(tmp_path / 'b.pth', tensors, test_pipeline=pipeline)
    content = torch.load(path, weights_only=True)
    content['halvit_mm'] = dict(header, test_pipeline=pipeline)
    torch.save(content, path)
    with pytest.raises(ValueError, match='a.pth: .* in its header is'):
        load_content(path)
