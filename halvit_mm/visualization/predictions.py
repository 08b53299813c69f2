"""Detections drawn on images and written as videos, by ``supervision``."""

from types import ModuleType
from typing import Optional, Sequence

import cv2
import matplotlib
import numpy as np

INSTALL = "pip install 'supervision>=0.31,<0.32'"
_MIN_SIDE, _MIN_TEXT = 480, 11  # of a picture and its text, in pixels
# OpenCV's own has ASCII only.
_FONT = f'{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf'


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
        sv, picture = self.sv, image.copy()
        short, long = sorted(image.shape[:2])
        factor = max(1, min(-(-_MIN_SIDE // short), 4 * _MIN_SIDE // long))
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
        texts = [
            f'{self.classes[label]} {score:.2f}'
            for label, score in zip(labels, scores)
        ]
        height = max(min(size) // 45, _MIN_TEXT)
        return sv.RichLabelAnnotator(
            self.colours,
            text_color=self.text_colours,
            font_path=_FONT,
            font_size=height,
            text_padding=height // 5,
            smart_position=True,  # inside the picture, and apart
        ).annotate(picture, found, texts)


def _luminance(rgb: Sequence[int]) -> float:
    """How bright a colour looks, 0 to 255 (ITU-R BT.601)."""
    return float(np.dot(rgb, (0.299, 0.587, 0.114)))
