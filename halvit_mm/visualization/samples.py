"""Detections on images of a validation set, as the host draws them."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .detections import read_image


def draw_sample(visualizer: Any, sample: Any, out: str) -> np.ndarray:
    """Draw what was found on an image, beside the truth where it is known.

    Args:
        visualizer: mmdet's, with the names of the classes.
        sample: ``DetDataSample`` with predictions in the image's own size.
        out: Picture to write.

    Returns:
        The picture, (H, W, 3), RGB, uint8.

    Raises:
        ValueError: If the image cannot be read, or has another size.
    """
    image = read_image(Path(sample.img_path), tuple(sample.ori_shape[:2]))
    if image is None:
        raise ValueError(f'{sample.img_path} cannot be read')
    pixels = (255 * image).round().astype(np.uint8)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    has_truth = len(sample.get('gt_instances', ())) > 0
    visualizer.add_datasample(
        'sample', pixels, sample, draw_gt=has_truth, out_file=out
    )
    return cv2.imread(out)[..., ::-1]
