"""Whether a data set and its evaluator have the same objects."""

import os
from typing import Any

from pycocotools import mask as coco_mask

from .coco import CheckedCOCO

# Images looked at, evenly; and the share of objects to find, below which the
# annotations are of other images and not another edition of the same.
_LIMIT, _SHARE = 200, 0.5


def require_same_objects(dataset: Any, coco: CheckedCOCO) -> None:
    """Refuse annotations of other images that have the same ids and names.

    Files that number their images from one often have both.

    Args:
        dataset: What is evaluated; mmdet's information on its images.
        coco: What it is compared with.

    Raises:
        ValueError: If most objects of the data set are not in the evaluator's
            file.
    """
    path = getattr(dataset, 'ann_file', None)
    if not path or os.path.realpath(path) == os.path.realpath(coco.file.path):
        return
    count = found = 0
    for index in range(0, len(dataset), max(1, len(dataset) // _LIMIT)):
        info = dataset.get_data_info(index)
        boxes = [_as_coco(x['bbox']) for x in info.get('instances', [])]
        theirs = [a['bbox'] for a in coco.imgToAnns[info['img_id']]]
        count += len(boxes)
        if boxes and theirs:
            overlaps = coco_mask.iou(boxes, theirs, [0] * len(theirs))
            found += int((overlaps.max(1) >= 0.5).sum())
    if found < _SHARE * count:
        raise ValueError(
            f'the evaluator and the data set differ: of {count} objects that '
            f'{path} has, {coco.file.path} has {found}: give ann_file of the '
            'data set to the evaluator'
        )


def _as_coco(box: list) -> list:
    left, top, right, bottom = box
    return [left, top, right - left, bottom - top]
