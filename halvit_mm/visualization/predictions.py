"""Detections drawn on images and written as videos, by ``supervision``."""

from types import ModuleType
from typing import Optional, Sequence

import cv2
import numpy as np

INSTALL = "pip install 'supervision>=0.31,<0.32'"
_MIN_SIDE = 480  # pixels
# OpenCV's 1 is 22 pixels high; below 0.35 letters run into each other.
_SIDE_PER_TEXT_SCALE, _MIN_TEXT_SCALE = 1500, 0.35


def load_supervision() -> ModuleType:
    """Import ``supervision``, which only pictures and videos need.

    Raises:
        ImportError: If it is not installed, with the command that does it.
    """
    try:
        import supervision
    except ImportError as error:
        raise ImportError(
            f'pictures are drawn by the package supervision ({error}): '
            f'{INSTALL}'
        ) from error
    return supervision


class Painter:
    """Draws masks, boxes, names and scores, a colour for each class.

    Args:
        classes: Names in the order of the labels.
        palette: A colour of each in RGB, 0 to 255.

    Raises:
        ImportError: As :func:`load_supervision`.
    """

    def __init__(
        self, classes: Sequence[str], palette: Sequence[Sequence[int]]
    ) -> None:
        self.sv = sv = load_supervision()
        self.classes = classes
        colours = [sv.Color.from_rgb_tuple(tuple(rgb)) for rgb in palette]
        texts = [
            sv.Color.BLACK if _luminance(rgb) > 140 else sv.Color.WHITE
            for rgb in palette
        ]
        self.colours = sv.ColorPalette(colours)
        self.text_colours = sv.ColorPalette(texts)

    def draw(
        self,
        image: np.ndarray,
        boxes: np.ndarray,
        scores: np.ndarray,
        labels: np.ndarray,
        masks: Optional[np.ndarray] = None,
    ) -> np.ndarray:
        """Draw detections on a copy of an image.

        Args:
            image: (H, W, 3), BGR, uint8.
            boxes: (N, 4), the corners x1, y1, x2, y2 in pixels.
            scores: (N,).
            labels: (N,), numbers of classes.
            masks: (N, H, W), bool, or None.

        Returns:
            The picture; images of less than 480 pixels are enlarged by a
            whole factor, for names to be legible.
        """
        sv, factor = self.sv, -(-_MIN_SIDE // min(image.shape[:2]))
        picture = image.copy()
        if masks is not None:
            found = sv.Detections(boxes, masks, scores, labels.astype(int))
            picture = sv.MaskAnnotator(self.colours).annotate(picture, found)
        if factor > 1:
            picture = cv2.resize(picture, None, fx=factor, fy=factor)
        size = picture.shape[1::-1]
        found = sv.Detections(boxes * factor, None, scores, labels.astype(int))
        thickness = sv.calculate_optimal_line_thickness(size)
        picture = sv.BoxAnnotator(self.colours, thickness).annotate(
            picture, found
        )
        scale = max(min(size) / _SIDE_PER_TEXT_SCALE, _MIN_TEXT_SCALE)
        texts = [
            f'{self.classes[label]} {score:.2f}'
            for label, score in zip(labels, scores)
        ]
        return sv.LabelAnnotator(
            self.colours,
            text_color=self.text_colours,
            text_scale=scale,
            text_padding=max(1, round(6 * scale)),
            smart_position=True,  # inside the picture, and apart
        ).annotate(picture, found, texts)


def _luminance(rgb: Sequence[int]) -> float:
    """How bright a colour looks, 0 to 255 (ITU-R BT.601)."""
    return float(np.dot(rgb, (0.299, 0.587, 0.114)))
