"""AP without rounding equals that of pycocotools and of the host."""

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from mmdet.evaluation.metrics import CocoMetric
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from halvit_mm.apis import coco_summary as summarize
from halvit_mm.apis import print_coco_summary

SIZE, NUM_IMAGES = 256, 12
CLASSES = ('circle', 'square', 'triangle')
HOST_NAMES = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')


def ellipse(box):
    """Run lengths of the ellipse in a box (x, y, w, h)."""
    centre, radii = box[:2] + box[2:] / 2, box[2:] / 2
    y, x = np.mgrid[:SIZE, :SIZE]
    inside = ((x - centre[0]) / radii[0]) ** 2
    inside += ((y - centre[1]) / radii[1]) ** 2
    rle = coco_mask.encode(np.asfortranarray(inside <= 1, dtype=np.uint8))
    return dict(rle, counts=rle['counts'].decode())


def entry(box, **more):
    segmentation = ellipse(box)
    return dict(
        bbox=coco_mask.toBbox(segmentation).tolist(),
        segmentation=segmentation,
        **more,
    )


def random_box(rng):
    # Around COCO's borders of 32 and 96 pixels: all three area ranges.
    size = np.exp(rng.uniform(np.log(12), np.log(150), 2))
    return np.concatenate((rng.uniform(0, SIZE - size), size))


def draw_truth(rng):
    annotations = []
    for image_id in range(1, NUM_IMAGES + 1):
        count = 0 if image_id % 4 == 0 else rng.integers(1, 7)
        for i in range(count):
            annotation = entry(
                random_box(rng),
                id=len(annotations) + 1,
                image_id=image_id,
                category_id=int(rng.integers(1, 4)),
                iscrowd=int(i == 3),
            )
            area = coco_mask.area(annotation['segmentation'])
            annotations.append(dict(annotation, area=float(area)))
    return annotations


def draw_detections(rng, annotations):
    """Objects found more or less well, and some that are not there."""
    detections = []
    for a in annotations:
        for _ in range(rng.integers(0, 4)):
            box = np.array(a['bbox'])
            box += rng.normal(0, 0.07, 4) * np.tile(box[2:], 2)
            wrong = rng.random() < 0.1
            category = rng.integers(1, 4) if wrong else a['category_id']
            detections.append((a['image_id'], box, category))
    for image_id in range(1, NUM_IMAGES + 1):  # the empty ones too
        for _ in range(4):
            box, category = random_box(rng), rng.integers(1, 4)
            detections.append((image_id, box, category))
    return [
        entry(
            box,
            image_id=int(image_id),
            category_id=int(category),
            score=float(rng.uniform(0.05, 1)),
        )
        for image_id, box, category in detections
    ]


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Paths of random annotations and detections."""
    rng = np.random.default_rng(0)
    annotations = draw_truth(rng)
    assert sum(a['iscrowd'] for a in annotations) > 1
    truth = dict(
        images=[
            dict(id=i, file_name=f'{i}.png', width=SIZE, height=SIZE)
            for i in range(1, NUM_IMAGES + 1)
        ],
        annotations=annotations,
        categories=[
            dict(id=i, name=name) for i, name in enumerate(CLASSES, 1)
        ],
    )
    folder = tmp_path_factory.mktemp('coco')
    paths = folder / 'truth.json', folder / 'detections.json'
    paths[0].write_text(json.dumps(truth))
    paths[1].write_text(json.dumps(draw_detections(rng, annotations)))
    return tuple(map(str, paths))


def reference(files, kind, max_dets=100, categories=()):
    """The six averages of pycocotools."""
    with open(files[1]) as file:
        results = json.load(file)
    if kind == 'segm':  # else areas would be those of the boxes
        results = [{k: r[k] for k in r if k != 'bbox'} for r in results]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(files[0])
        evaluation = COCOeval(truth, truth.loadRes(results), kind)
        if categories:
            evaluation.params.catIds = list(categories)
        evaluation.params.maxDets = [1, 2, max_dets]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = evaluation.stats[:6]
    if max_dets != 100:  # the first is always of 100, the others are not
        precision = evaluation.eval['precision'][:, :, :, 0, -1]
        stats[0] = precision[precision > -1].mean()
    return stats


def assert_equal(summary, stats):
    assert list(summary.values()) == pytest.approx(stats, abs=1e-6)


@pytest.fixture(params=['faster_coco_eval', 'pycocotools'])
def evaluator(request, monkeypatch):
    """Both of what the summary may run on; the extra may be missing."""
    pytest.importorskip(request.param)
    if request.param == 'pycocotools':
        monkeypatch.setitem(summarize.__globals__, 'COCOeval', COCOeval)
    else:
        name = summarize.__globals__['COCOeval'].__module__
        assert name.startswith('faster_coco_eval')


@pytest.mark.parametrize('kind', ['bbox', 'segm'])
def test_equals_pycocotools(files, kind, evaluator):
    stats = reference(files, kind)
    assert len(set(stats)) == 6
    assert 0.1 < stats.min() and stats.max() < 0.9
    assert_equal(summarize(*files, kind), stats)


@pytest.mark.parametrize('kind', ['bbox', 'segm'])
def test_other_numbers_of_detections(files, kind, evaluator):
    stats = reference(files, kind, max_dets=3)
    assert_equal(summarize(*files, kind, max_dets=3), stats)
    assert stats[0] < reference(files, kind)[0]


@pytest.mark.parametrize('kind', ['bbox', 'segm'])
def test_some_of_the_classes(files, kind, evaluator):
    stats = reference(files, kind, categories=(1, 3))
    chosen = (CLASSES[0], CLASSES[2])
    assert_equal(summarize(*files, kind, classes=chosen), stats)
    assert stats[0] != reference(files, kind)[0]


def test_kinds_differ(files):
    kinds = (summarize(*files, kind)['AP'] for kind in ('bbox', 'segm'))
    assert len(set(kinds)) == 2


def test_no_detections(files, tmp_path, evaluator):
    path = tmp_path / 'none.json'
    path.write_text('[]')
    assert set(summarize(files[0], str(path)).values()) == {0.0}


def test_no_such_objects(files, tmp_path, evaluator):
    with open(files[0]) as file:
        truth = json.load(file)
    truth['annotations'] = [
        a for a in truth['annotations'] if a['area'] < 96**2
    ]
    path = tmp_path / 'no_large.json'
    path.write_text(json.dumps(truth))
    summary = summarize(str(path), files[1])
    assert summary['AP_large'] == -1
    assert_equal(summary, reference((str(path), files[1]), 'bbox'))


def predictions(detections, image_id):
    """Detections of an image as a model of mmdet gives them."""
    own = [d for d in detections if d['image_id'] == image_id]
    boxes = torch.tensor([d['bbox'] for d in own]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return dict(
        bboxes=boxes,
        scores=torch.tensor([d['score'] for d in own]),
        labels=torch.tensor([d['category_id'] - 1 for d in own]),
        masks=[dict(d['segmentation']) for d in own],
    )


def test_host_prints_the_same_rounded(files, tmp_path):
    prefix = str(tmp_path / 'results')
    metric = CocoMetric(
        files[0], metric=['bbox', 'segm'], outfile_prefix=prefix
    )
    metric.dataset_meta = dict(classes=CLASSES)
    with open(files[1]) as file:
        detections = json.load(file)
    for image_id in range(1, NUM_IMAGES + 1):
        sample = dict(
            img_id=image_id,
            ori_shape=(SIZE, SIZE),
            pred_instances=predictions(detections, image_id),
        )
        metric.process({}, [sample])
    printed = metric.evaluate(NUM_IMAGES)
    for kind in ('bbox', 'segm'):
        summary = summarize(files[0], f'{prefix}.{kind}.json', kind)
        for name, value in zip(HOST_NAMES, summary.values()):
            assert printed[f'coco/{kind}_{name}'] == round(value, 3)


def test_table_shows_six_decimals(files, capsys):
    summary = summarize(*files)
    print_coco_summary(dict(bbox=summary), 100)
    output = capsys.readouterr().out
    for name, value in summary.items():
        assert name in output
        assert f'{value:.6f}' in output
