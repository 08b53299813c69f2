"""A detector is compressed, trained further, evaluated, used, made dense."""

import json

import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer

from halvit_mm.apis import Predictor, load_config
from halvit_mm.apis.compress import dense_model, save_dense
from halvit_mm.compression import read_compressed
from halvit_mm.datasets.shapes import CLASSES

from ..commands import ROOT
from . import conftest
from .conftest import ONE_EPOCH, tool

DETECTOR = ROOT / conftest.DETECTOR


@pytest.fixture(scope='module')
def compressed(shapes, detected, tmp_path_factory):
    """The folder of a compression of the whole detector."""
    folder = tmp_path_factory.mktemp('compressed_detector')
    config = folder / 'detector.py'
    groups = [r'layers\.[01]\.ffn', r'layers\.[23]\.ffn']
    config.write_text(
        f"_base_ = '{DETECTOR}'\n"
        'model = dict(backbone=dict(init_cfg=None))\n'
        f'fips = dict(groups={groups}, num_batches=2, batch_size=2, '
        'epochs=40, lr=3e-3, interval=8)\n'
    )
    out, options = folder / 'out', [f'data_root={shapes}/detection']
    command = ('compress', config, detected / 'epoch_1.pth')
    tool(*command, budget=0.5, out=out, options=options)
    return out


@pytest.fixture(scope='module')
def finetuned(compressed, tmp_path_factory):
    """The work directory of an epoch of training with RigL."""
    work_dir = tmp_path_factory.mktemp('finetuned_detector')
    config = work_dir / 'finetune.py'
    config.write_text(
        f"_base_ = '{compressed}/config.py'\n"
        "custom_hooks = [dict(type='halvit_mm.RigLHook', interval=2)]\n"
    )
    options = ['train_dataloader.batch_size=2', *ONE_EPOCH]
    tool('train', config, work_dir=work_dir, options=options)
    return work_dir


def test_the_file_alone_predicts(compressed, shapes, tmp_path):
    """As its config does, and as its dense weights."""
    path = compressed / 'compressed.safetensors'
    source = str(shapes / 'detection' / 'val' / '000001.png')
    dense = tmp_path / 'dense.safetensors'
    save_dense(load_config(str(compressed / 'config.py')), str(path), dense)
    predictors = (
        Predictor(str(path)),
        Predictor(str(path), str(compressed / 'config.py')),
        Predictor(str(dense)),
    )
    first, *others = (next(iter(p(source, 0.0))) for p in predictors)
    assert {p.classes for p in predictors} == {tuple(CLASSES)}
    assert first.image.shape == (128, 128, 3) and len(first.scores)
    for other in others:
        np.testing.assert_allclose(first.boxes, other.boxes, atol=0.01)
        np.testing.assert_allclose(first.scores, other.scores, atol=1e-4)


def test_compressed(compressed):
    report = json.loads((compressed / 'report.json').read_text())
    groups = [group['structure'][0] for group in report['groups']]
    assert groups == ['group0', 'group1']
    assert sum(e['after'] - e['before'] for e in report['errors']) < 0
    names = read_compressed(compressed / 'compressed.safetensors').state_dict
    assert 'roi_head.bbox_head.fc_cls.weight' in names  # the whole detector


def test_evaluated(compressed, tmp_path):
    files = (compressed / 'config.py', compressed / 'compressed.safetensors')
    stdout = tool('test', *files, work_dir=tmp_path).stdout
    assert 'segm' in stdout
    summary = json.loads((tmp_path / 'coco_summary.json').read_text())
    assert 0 <= summary['bbox']['AP'] <= 1


def test_in_the_inferencer_of_the_host(compressed, finetuned, tmp_path):
    """As it is, and dense with the original's config: the same boxes."""
    config = compressed / 'config.py'
    image = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    dense = 'model_converters/dense_from_fips'
    whole = compressed / 'compressed.safetensors'
    tool(dense, config, whole, tmp_path / 'dense.pth')
    tool(dense, config, finetuned / 'epoch_1.pth', tmp_path / 'finetuned.pth')
    found = []
    for model, weights in (
        (config, whole),
        (DETECTOR, tmp_path / 'dense.pth'),
        (config, finetuned / 'epoch_1.pth'),
        (DETECTOR, tmp_path / 'finetuned.pth'),
    ):
        inferencer = DetInferencer(str(model), str(weights), device='cpu')
        assert tuple(inferencer.model.dataset_meta['classes']) == CLASSES
        (result,) = inferencer(image, no_save_vis=True)['predictions']
        found.append(result)
    for one, other in (found[:2], found[2:]):
        assert len(one['scores']) > 0
        for key in ('scores', 'bboxes'):
            np.testing.assert_allclose(
                one[key], other[key], rtol=1e-3, atol=1e-3
            )


def test_dense_weights(compressed, tmp_path):
    cfg = load_config(str(compressed / 'config.py'))
    source = compressed / 'compressed.safetensors'
    number = save_dense(cfg, str(source), tmp_path / 'dense.pth')
    state = torch.load(tmp_path / 'dense.pth', weights_only=True)['state_dict']
    model = dense_model(cfg, str(source))
    assert number == len(state) == len(model.state_dict())
    assert not any('inner.' in n or 'shared_bases' in n for n in state)
    original = load_config(str(DETECTOR), {'model.backbone.init_cfg': None})
    with pytest.raises(ValueError, match='is HaLViT, not a CompressedBack'):
        dense_model(original, str(source))
