"""Detectors of boxes: Mask R-CNN's configs without what masks need."""

import json
import re

import pytest
from mmengine.config import Config

from halvit_mm.apis import load_config
from halvit_mm.apis.fake_data import fake_batch

from .configs import BOX_DETECTORS, CONFIGS, differing, load

CUSTOM = 'custom/fasterrcnn_halvit_nuclei'
NAMES = [*BOX_DETECTORS, CUSTOM]
#: Where a config and that of Mask R-CNN may differ; the variables
#: `train_pipeline` and `test_pipeline` are those of the data loaders.
MASKS = (
    r'model\.(type|data_preprocessor\.pad_mask)',
    r'model\.roi_head\.mask_(head|roi_extractor)\b.*',
    r'model\.train_cfg\.rcnn\.assigner\.match_low_quality',
    r'.*_dataloader\.dataset\.pipeline\.\d\.with_mask',
    r'(train|test)_pipeline\..*',
    r'(val|test)_evaluator\.metric.*',
    'work_dir',
)


@pytest.mark.parametrize('name', NAMES)
def test_differs_from_mask_rcnn_in_masks_only(name):
    cfg, base = load(name), load(name.replace('fasterrcnn', 'maskrcnn'))
    found = differing(dict(cfg.items()), dict(base.items()))
    allowed = '|'.join(MASKS)
    assert [p for p in found if not re.fullmatch(allowed, p)] == []
    assert cfg.val_evaluator.metric == cfg.test_evaluator.metric == 'bbox'
    for split in ('train', 'val', 'test'):
        pipeline = cfg[f'{split}_dataloader'].dataset.pipeline
        assert not any(step.get('with_mask') for step in pipeline)


@pytest.mark.parametrize('name', BOX_DETECTORS)
def test_heads_are_those_of_mmdet(name):
    base = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'
    host = Config.fromstring(f'_base_ = {base!r}', '.py').model
    found = differing(load(name).model, host)
    heads = [p for p in found if not p.startswith(('backbone', 'neck'))]
    assert heads == [
        'data_preprocessor.pad_mask',  # False, which is the default
        'roi_head.mask_head',  # None, as these
        'roi_head.mask_roi_extractor',
        'test_cfg.rcnn.mask_thr_binary',  # unused without a mask head
        'train_cfg.rcnn.mask_size',
    ]


@pytest.mark.parametrize('name', NAMES)
def test_classes_from_the_annotations(name, tmp_path):
    categories = [dict(id=i, name=f'class {i}') for i in range(5)]
    path = tmp_path / load(name).train_dataloader.dataset.ann_file
    path.parent.mkdir(parents=True)
    image = dict(id=1, file_name='1.png', width=8, height=8)
    path.write_text(json.dumps(dict(images=[image], categories=categories)))
    options = {'data_root': str(tmp_path), 'classes': 'auto'}
    cfg = load_config(str(CONFIGS / f'{name}.py'), options)
    assert cfg.model.roi_head.bbox_head.num_classes == 5
    assert cfg.model.roi_head.mask_head is None
    (sample, _) = fake_batch(cfg, (64, 64))['data_samples']
    assert 'masks' not in sample.gt_instances
