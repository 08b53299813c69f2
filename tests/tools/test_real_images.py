"""Photos of COCO: crowds, images without objects, eighty classes."""

import json
import math
import os
from pathlib import Path

import pytest

from halvit_mm.registry import DATASETS

from .conftest import tool

DATA = Path(os.environ.get('HALVIT_MM_DATA', 'data')) / 'coco_mini'
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(
        not DATA.is_dir(), reason=f'no images in {DATA}, see HALVIT_MM_DATA'
    ),
]
CONFIG = 'configs/maskrcnn_halvit_t.py'


def test_crowds_and_empty_images_are_read():
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    cfg = Config.fromfile(CONFIG)
    init_default_scope('mmdet')
    cfg = cfg.train_dataloader.dataset
    cfg.data_root = str(DATA)
    images = {}
    for keep_empty in (False, True):
        cfg.filter_cfg.filter_empty_gt = not keep_empty
        images[keep_empty] = DATASETS.build(cfg)
    assert len(images[True]) == 257 > len(images[False])
    samples = [d['data_samples'] for d in images[True]]
    assert sum(len(sample.gt_instances) for sample in samples) > 1000
    # crowd regions are ignored, not lost
    assert any(len(sample.ignored_instances) for sample in samples)


def test_training_and_evaluation(tmp_path):
    small = 'scale=(333,200)'
    options = [
        f'data_root={DATA.resolve()}',
        'model.backbone.init_cfg=None',
        'train_dataloader.dataset.indices=2',
        f'train_dataloader.dataset.pipeline.2.{small}',
        f'val_dataloader.dataset.pipeline.1.{small}',
        'val_dataloader.dataset.indices=2',
        'train_cfg.max_epochs=1',
        'default_hooks.logger.interval=1',
    ]
    output = tool('train', CONFIG, work_dir=tmp_path, options=options).stdout
    records = next(tmp_path.glob('*/vis_data/scalars.json')).read_text()
    losses = [json.loads(line).get('loss') for line in records.splitlines()]
    assert all(map(math.isfinite, filter(None, losses)))
    assert 'Epoch(val) [1][2/2]' in output
