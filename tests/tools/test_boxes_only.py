"""From annotations without masks to a detector of boxes, by the tools."""

import json
import re

import pytest

from halvit_mm.datasets.shapes import draw_detection_split
from tests.apis.test_coco_summary import reference

from .conftest import tool

CONFIG = 'configs/custom/fasterrcnn_halvit_nuclei.py'


@pytest.fixture(scope='module')
def boxes(tmp_path_factory):
    """Shapes as the config asks for them, their polygons left out."""
    root = tmp_path_factory.mktemp('boxes')
    for split, number in (('train', 6), ('val', 3)):
        content = draw_detection_split(root, split, number, seed=number)
        for annotation in content['annotations']:
            del annotation['segmentation']
        (root / f'annotations/{split}.json').unlink()
        path = root / f'annotations/instances_{split}.json'
        path.write_text(json.dumps(content))
    return root


@pytest.fixture(scope='module')
def options(boxes):
    return [
        '--cfg-options',
        f'data_root={boxes}',
        'model.backbone.init_cfg=None',
        'model.test_cfg.rcnn.max_per_img=100',
        'model.test_cfg.rcnn.score_thr=0.0',  # untrained: keep something
        'train_dataloader.batch_size=2',
        'train_cfg.max_epochs=1',
        'train_cfg.val_interval=1',
        'default_hooks.checkpoint.interval=1',
        'default_hooks.logger.interval=1',
        'log_processor.window_size=1',
    ]


@pytest.fixture(scope='module')
def trained(options, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('trained')
    tool('train', CONFIG, '--work-dir', work_dir, *options)
    return work_dir


def test_training(trained):
    path = next(trained.glob('*/vis_data/scalars.json'))
    logs = [json.loads(line) for line in path.read_text().splitlines()]
    losses = [log for log in logs if 'loss' in log]
    assert len(losses) == 3
    for log in losses:
        parts = {key for key in log if key.startswith('loss_')}
        assert parts == {
            'loss_rpn_cls',
            'loss_rpn_bbox',
            'loss_cls',
            'loss_bbox',
        }
    scores = {key for log in logs for key in log if key.startswith('coco/')}
    assert 'coco/bbox_mAP' in scores
    assert not [key for key in scores if 'segm' in key]


def test_evaluation_and_picture(trained, boxes, options, tmp_path):
    checkpoint = trained / 'epoch_1.pth'
    tool('test', CONFIG, checkpoint, '--work-dir', tmp_path, *options)
    ann_file = boxes / 'annotations/instances_val.json'
    results = tmp_path / 'results.bbox.json'
    summary = json.loads((tmp_path / 'coco_summary.json').read_text())
    assert list(summary) == ['bbox']
    stats = reference((ann_file, results), 'bbox')
    assert list(summary['bbox'].values()) == pytest.approx(stats, abs=1e-6)
    assert not (tmp_path / 'results.segm.json').exists()
    out = tmp_path / 'boxes.png'
    draw = 'analysis_tools/draw_detections'
    args = (ann_file, boxes / 'val', results, '--score-thr', 0)
    assert 'not drawn' not in tool(draw, *args, '--out', out).stdout
    assert out.read_bytes().startswith(b'\x89PNG')


def test_check_config():
    configs = (CONFIG, 'configs/fasterrcnn_halvit_t.py')
    output = tool('analysis_tools/check_config', *configs, '--steps', 1).stdout
    for config in configs:
        assert re.search(rf'ok +{config}: .*loss ', output)


def test_model_info():
    args = (CONFIG, '--shape', 64, 64)
    output = tool('analysis_tools/model_info', *args).stdout
    for part in ('backbone', 'neck', 'rpn_head', 'roi_head', 'total'):
        assert f'{part} ' in output


def test_benchmark(tmp_path):
    args = '--shape 64 64 --batch 1 --mode train --rounds 1 --dtype fp32'
    output = tool(
        'analysis_tools/benchmark',
        'detector',
        CONFIG,
        *args.split(),
        '--variants',
        'untied',
        'ours',
        '--min-seconds',
        0,
        '--out',
        tmp_path,
    ).stdout
    assert 'detector_fasterrcnn_halvit_nuclei_1x64x64px_train' in output
