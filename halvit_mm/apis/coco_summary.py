"""COCO's average precisions of a result file, without rounding."""

import contextlib
import io
from typing import Dict, Optional, Sequence

import numpy as np

from ..datasets import read_results
from ..datasets.coco import CheckedCOCO
from .table import Table

try:  # the extra `coco`: the same figures, many times faster
    from faster_coco_eval import COCOeval_faster as COCOeval
except ImportError:
    from pycocotools.cocoeval import COCOeval

#: Name -> IoU threshold (None: mean of 0.50 to 0.95) and area range.
_ITEMS = {
    'AP': (None, 'all'),
    'AP50': (0.5, 'all'),
    'AP75': (0.75, 'all'),
    'AP_small': (None, 'small'),
    'AP_medium': (None, 'medium'),
    'AP_large': (None, 'large'),
}


def coco_summary(
    ann_file: str,
    result_file: str,
    iou_type: str = 'bbox',
    max_dets: int = 100,
    classes: Optional[Sequence[str]] = None,
    image_ids: Optional[Sequence[int]] = None,
) -> Dict[str, float]:
    """Compute the average precision of detections in COCO's result format.

    Args:
        ann_file: COCO annotations, which are checked and mended.
        result_file: Detections as mmdet's metric writes them.
        iou_type: ``'bbox'`` or ``'segm'``.
        max_dets: Detections that count in each image, for all averages.
        classes: Names of the classes that count, by default all.
        image_ids: Ids of the images that were evaluated, by default all.

    Returns:
        ``AP, AP50, AP75, AP_small, AP_medium, AP_large`` from 0 to 1, -1
        where there is no such object in the annotations.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        truth = CheckedCOCO(ann_file, copies=True)
    results = read_results(result_file, truth.file)
    if iou_type == 'segm':
        # As in the host, areas are those of the masks, not of the boxes.
        results = [
            {k: v for k, v in result.items() if k != 'bbox'}
            for result in results
        ]
    with contextlib.redirect_stdout(io.StringIO()):
        if not results:
            return dict.fromkeys(_ITEMS, 0.0)
        evaluation = COCOeval(truth, truth.loadRes(results), iou_type)
        evaluation.params.maxDets = [max_dets]
        if classes is not None:
            evaluation.params.catIds = truth.getCatIds(list(classes))
        if image_ids is not None:
            evaluation.params.imgIds = list(image_ids)
        evaluation.evaluate()
        evaluation.accumulate()
    return {
        name: _mean_precision(evaluation, *item)
        for name, item in _ITEMS.items()
    }


def _mean_precision(evaluation: COCOeval, iou_threshold, area: str) -> float:
    params = evaluation.params
    # (IoU thresholds, recalls, classes, areas, max_dets)
    precision = evaluation.eval['precision']
    precision = precision[:, :, :, params.areaRngLbl.index(area), 0]
    if iou_threshold is not None:
        precision = precision[np.isclose(params.iouThrs, iou_threshold)]
    precision = precision[precision > -1]
    return float(precision.mean()) if precision.size else -1.0


def print_coco_summary(
    summary: Dict[str, Dict[str, float]], max_dets: int = 100
) -> None:
    """Print as a table what :func:`coco_summary` gave for each IoU type."""
    rows = [
        {'': kind, **{name: f'{figures[name]:.6f}' for name in _ITEMS}}
        for kind, figures in summary.items()
    ]
    title = f'COCO average precision, {max_dets} detections an image'
    Table(rows, title).print()
