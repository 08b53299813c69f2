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
    and has no ``LoadImageFromFile``.

    Args:
        args, kwargs: As for mmpretrain's ``CustomDataset``.
        hold_out: n for every n-th image of the sorted files to be held out
            of training, 0 for none. Choices are made on these.
        held_out: Whether the data set is what is held out, or the rest.
    """

    def __init__(
        self, *args, hold_out: int = 0, held_out: bool = False, **kwargs
    ) -> None:
        self.hold_out, self.held_out = hold_out, held_out
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> List[dict]:
        """Read the images, ``img``, and their classes, ``gt_label``.

        Raises:
            ValueError: If an image cannot be read.
        """
        samples = super().load_data_list()
        if n := self.hold_out:
            samples = [
                sample
                for i, sample in enumerate(samples)
                if (i % n == 0) == self.held_out
            ]
        for sample in samples:
            path = sample.pop('img_path')
            sample['img'] = cv2.imread(path)
            if sample['img'] is None:
                raise ValueError(f'{path} is no image that can be read')
        return samples
