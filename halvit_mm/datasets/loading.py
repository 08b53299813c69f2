"""Loading of images with errors that name the file."""

import logging
from typing import Optional

import cv2
from mmcv.transforms import LoadImageFromFile as MMCVLoadImageFromFile
from mmengine.logging import print_log

from ..registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadImageFromFile(MMCVLoadImageFromFile):
    """mmcv's loader, which may skip images that cannot be decoded.

    Args:
        max_broken: Number of images that may be skipped, counted in each
            worker process. With 0, as in evaluation, the first broken image
            is an error.
        kwargs: Arguments of ``mmcv.LoadImageFromFile``.
    """

    def __init__(self, max_broken: int = 0, **kwargs) -> None:
        super().__init__(**kwargs)
        self.max_broken = max_broken
        self.broken = []

    def transform(self, results: dict) -> Optional[dict]:
        """Load ``results['img_path']`` as ``img``, (H, W, 3).

        None means that the image is skipped; the data set takes another one.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it cannot be decoded and no more may be skipped.
        """
        try:
            return super().transform(results)
        except FileNotFoundError:
            raise
        except (AssertionError, OSError, ValueError, cv2.error) as error:
            return self._skip(results['img_path'], error)

    def _skip(self, path: str, error: Exception) -> None:
        if path not in self.broken:
            self.broken.append(path)
        if len(self.broken) > self.max_broken:
            raise ValueError(
                f'cannot decode {len(self.broken)} image(s), '
                f'{self.max_broken} may be skipped: {self.broken}'
            ) from error
        print_log(
            f'cannot decode {path}: skipped '
            f'({len(self.broken)} of at most {self.max_broken})',
            logger='current',
            level=logging.WARNING,
        )
