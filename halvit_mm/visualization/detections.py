"""Detections beside the ground truth."""

import contextlib
import io
import json
from pathlib import Path
from typing import List

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from pycocotools.coco import COCO


def _draw(axes: Axes, image, coco: COCO, annotations: List[dict]) -> None:
    """Draw an image and what is said to be on it."""
    image = image.astype(np.float32) / 255
    order = {category: i for i, category in enumerate(sorted(coco.cats))}
    for annotation in annotations:
        index = order[annotation['category_id']] % 10
        colour = colormaps['tab10'](index)[:3]
        if 'segmentation' in annotation:
            mask = coco.annToMask(annotation).astype(bool)
            image[mask] = 0.5 * image[mask] + 0.5 * np.array(colour)
        x, y, width, height = annotation['bbox']
        axes.add_patch(
            Rectangle((x, y), width, height, fill=False, ec=colour, lw=1.2)
        )
        text = coco.cats[annotation['category_id']]['name']
        if 'score' in annotation:
            text += f' {annotation["score"]:.2f}'
        box = dict(facecolor=colour, edgecolor='none', pad=0.6)
        style = dict(fontsize=6, va='bottom', color='white', bbox=box)
        axes.text(x, y - 1, text, **style)
    axes.imshow(image)
    axes.set_axis_off()


def draw_detections(
    ann_file: str,
    image_dir: str,
    result_file: str,
    out: str,
    num_images: int = 6,
    score_thr: float = 0.5,
) -> None:
    """Draw ground truth (top) and predictions (below) of some images.

    Args:
        ann_file: COCO annotations.
        image_dir: Folder of the images.
        result_file: Detections as COCO's results, of boxes or masks.
        out: PNG file.
        num_images: Images to draw, evenly spread over those with objects.
        score_thr: Least score of a detection to be drawn.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(ann_file)
        results = json.loads(Path(result_file).read_text())
        found = truth.loadRes(results) if results else COCO()
    ids = sorted(i for i in truth.imgs if truth.imgToAnns[i])
    ids = ids or sorted(truth.imgs)
    img_ids = ids[:: max(1, len(ids) // num_images)][:num_images]
    figure = Figure(
        figsize=(2.3 * len(img_ids), 4.9), layout='constrained', dpi=110
    )
    grid = figure.subplots(2, len(img_ids), squeeze=False)
    for column, img_id in zip(grid.T, img_ids):
        path = Path(image_dir) / truth.imgs[img_id]['file_name']
        image = cv2.imread(str(path))
        if image is None:
            raise ValueError(f'there is no image {path}, or it is broken')
        image = image[..., ::-1]
        detections = [
            annotation
            for annotation in found.imgToAnns[img_id]
            if annotation['score'] >= score_thr
        ]
        _draw(column[0], image, truth, truth.imgToAnns[img_id])
        _draw(column[1], image, truth, detections)
    grid[0, 0].set_title('ground truth', fontsize=9, loc='left')
    grid[1, 0].set_title('prediction', fontsize=9, loc='left')
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)
