"""Small images that are decoded only once."""

from typing import List

import cv2
from mmpretrain.datasets import CustomDataset

from ..registry import DATASETS


@DATASETS.register_module()
class ImagesInMemory(CustomDataset):
    """Images in one folder per class, read once and kept in memory.

    It is meant for images of a few kilobytes, where decoding would take longer
    than a training step. The pipeline starts with ``img``, (H, W, 3) in BGR,
    and has no ``LoadImageFromFile``. The arguments are those of mmpretrain's
    ``CustomDataset``.
    """

    def load_data_list(self) -> List[dict]:
        """Read the images, ``img``, and their classes, ``gt_label``.

        Raises:
            ValueError: If an image cannot be read.
        """
        samples = super().load_data_list()
        for sample in samples:
            path = sample.pop('img_path')
            sample['img'] = cv2.imread(path)
            if sample['img'] is None:
                raise ValueError(f'{path} is no image that can be read')
        return samples
