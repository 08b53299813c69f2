"""What was detected on an image."""

from typing import List, NamedTuple, Optional

import numpy as np
from pycocotools import mask as coco_mask

from .sources import Frame


class Prediction(NamedTuple):
    """What was detected on an image.

    Attributes:
        frame: Where the image is from.
        image: (H, W, 3), BGR, uint8, turned as its EXIF orientation says.
        boxes: (N, 4), the corners x1, y1, x2, y2 in pixels of ``image``.
        scores: (N,), 0 to 1.
        labels: (N,), numbers of classes.
        masks: (N, H, W), bool; None of a detector of boxes.
    """

    frame: Frame
    image: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: Optional[np.ndarray]

    def coco_results(self, category_ids: List[int]) -> List[dict]:
        """Write the detections as COCO's results.

        Args:
            category_ids: Id of each class.
        """
        found = []
        for i, (x1, y1, x2, y2) in enumerate(self.boxes.tolist()):
            result = dict(
                image_id=self.frame.image_id,
                bbox=[x1, y1, x2 - x1, y2 - y1],
                score=float(self.scores[i]),
                category_id=category_ids[self.labels[i]],
            )
            if self.masks is not None:
                mask = np.asfortranarray(self.masks[i], np.uint8)
                rle = coco_mask.encode(mask)
                rle['counts'] = rle['counts'].decode()
                result['segmentation'] = rle
            found.append(result)
        return found
