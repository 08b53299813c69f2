"""A small COCO data set to spoil, and the truth fed back as detections."""

import json
from pathlib import Path

import numpy as np
import torch
from mmengine.registry import DATASETS, METRICS

from halvit_mm.apis.coco_summary import coco_summary
from halvit_mm.datasets.coco import CheckedCOCO
from halvit_mm.datasets.shapes import CLASSES

ANN_FILE = 'annotations/train.json'


def build(
    root,
    classes=CLASSES,
    max_broken=0,
    with_mask=True,
    bit_depth=None,
    **kwargs,
):
    """The data set of a folder that ``draw_detection_split`` has written."""
    return DATASETS.build(
        dict(
            type='halvit_mm.CocoDataset',
            data_root=str(root),
            ann_file=ANN_FILE,
            data_prefix=dict(img='train/'),
            metainfo=dict(classes=classes),
            pipeline=[
                dict(
                    type='halvit_mm.LoadImageFromFile',
                    max_broken=max_broken,
                    bit_depth=bit_depth,
                ),
                dict(
                    type='mmdet.LoadAnnotations',
                    with_bbox=True,
                    with_mask=with_mask,
                ),
                dict(type='mmdet.PackDetInputs', meta_keys=('img_path',)),
            ],
            **kwargs,
        )
    )


def edit_json(root, function):
    """Change the annotation file by a function of its content."""
    path = Path(root) / ANN_FILE
    content = json.loads(path.read_text())
    path.write_text(json.dumps(function(content) or content))
    return path


def objects(dataset):
    """Everything that training sees: boxes, labels and crowds by image."""
    return [
        [
            (
                np.round(x['bbox'], 2).tolist(),
                x['bbox_label'],
                x['ignore_flag'],
            )
            for x in dataset.get_data_info(i)['instances']
        ]
        for i in range(len(dataset))
    ]


def scores_of_truth(root, out, kinds=('bbox', 'segm'), classes=CLASSES):
    """AP of the objects of a file, fed as detections of score 1.

    Returns:
        kind -> AP of the host's table and of ours.
    """
    ann_file = str(Path(root) / ANN_FILE)
    coco = CheckedCOCO(ann_file, str(Path(root) / 'train'), copies=True)
    metric = METRICS.build(
        dict(
            type='halvit_mm.CocoMetric',
            ann_file=ann_file,
            metric=list(kinds),
            outfile_prefix=f'{out}/results',
        )
    )
    metric.dataset_meta = dict(classes=classes)
    labels = {i: k for k, i in enumerate(coco.getCatIds(catNms=classes))}
    for number, image in coco.imgs.items():
        found = [a for a in coco.imgToAnns[number] if not a['iscrowd']]
        boxes = torch.tensor([a['bbox'] for a in found]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        detections = dict(
            bboxes=boxes,
            scores=torch.ones(len(found)),
            labels=torch.tensor([labels[a['category_id']] for a in found]),
        )
        if 'segm' in kinds:
            masks = [coco.annToMask(a) for a in found]
            shape = (-1, image['height'], image['width'])
            detections['masks'] = torch.tensor(
                np.array(masks, bool).reshape(shape)
            )
        sample = dict(
            img_id=number,
            img_path=str(Path(root) / 'train' / image['file_name']),
            ori_shape=(image['height'], image['width']),
            pred_instances=detections,
        )
        metric.process({}, [sample])
    host = metric.evaluate(size=len(coco.imgs))
    ours = {
        kind: coco_summary(ann_file, f'{out}/results.{kind}.json', kind)['AP']
        for kind in kinds
    }
    return {k: (host[f'coco/{k}_mAP'], round(ours[k], 6)) for k in kinds}


def each(**changes):
    """A function that sets entries of every annotation."""

    def apply(content):
        for annotation in content['annotations']:
            for name, value in changes.items():
                annotation[name] = value(annotation)

    return apply


def without(kind, *names):
    def apply(content):
        for item in content[kind]:
            for name in names:
                del item[name]

    return apply


def of_second_and_last(**changes):
    def apply(content):
        for index in (1, -1):
            content['annotations'][index].update(changes)

    return apply
