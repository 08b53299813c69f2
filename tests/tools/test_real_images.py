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
    instances = [
        i for d in images[True] for i in d['data_samples'].gt_instances
    ]
    ignored = [
        i for d in images[True] for i in d['data_samples'].ignored_instances
    ]
    assert len(instances) > 1000
    assert ignored, 'crowd regions are ignored, not lost'


def test_training_and_evaluation(tmp_path):
    small = 'scale=(333,200)'
    output = tool(
        'train',
        CONFIG,
        '--work-dir',
        tmp_path,
        '--cfg-options',
        f'data_root={DATA.resolve()}',
        'model.backbone.init_cfg=None',
        'train_dataloader.dataset.indices=2',
        f'train_dataloader.dataset.pipeline.2.{small}',
        f'val_dataloader.dataset.pipeline.1.{small}',
        'val_dataloader.dataset.indices=2',
        'train_cfg.max_epochs=1',
        'default_hooks.logger.interval=1',
    ).stdout
    records = next(tmp_path.glob('*/vis_data/scalars.json')).read_text()
    losses = [json.loads(line).get('loss') for line in records.splitlines()]
    assert all(map(math.isfinite, filter(None, losses)))
    assert 'Epoch(val) [1][2/2]' in output
