"""An annotation file after its checks."""

from typing import Dict, List, Optional

import numpy as np

from .findings import DataError, Findings, some_of


class CocoFile:
    """The mended content of an annotation file and what was found in it.

    Args:
        path: The file.
        content: ``images``, ``annotations`` and ``categories`` as COCO
            describes them. It is shared by all readers, who copy what they
            change.
        has_constants: Whether the JSON holds NaN or Infinity.
        folder: Folder of the images, where it is known.
    """

    def __init__(
        self,
        path: str,
        content: dict,
        has_constants: bool = False,
        folder: Optional[str] = None,
    ) -> None:
        self.path = path
        self.content = content
        self.has_constants = has_constants
        self.folder = folder
        self.findings = Findings(path)
        self.without_masks: List[int] = []  # ids of objects
        self.misplaced_masks = ''  # a sentence, if most are
        self.deep_images: List[int] = []  # ids, by images.check_images
        # by images.check_images: its arguments -> unreadable images
        self.compared: Dict[tuple, List[int]] = {}

    @property
    def images(self) -> List[dict]:
        """The images."""
        return self.content['images']

    @property
    def annotations(self) -> List[dict]:
        """The objects and crowds."""
        return self.content['annotations']

    @property
    def categories(self) -> List[dict]:
        """The classes, in the order of the file."""
        return self.content['categories']

    def column(self, name: str, default=None) -> list:
        """Read one entry of every annotation."""
        return [a.get(name, default) for a in self.annotations]

    def drop(self, rows: np.ndarray, reason: str) -> None:
        """Leave annotations out, in training and in evaluation.

        Args:
            rows: (M,), bool, those to leave out.
            reason: For the line that says so.
        """
        if rows.any():
            ids = [self.annotations[i]['id'] for i in np.flatnonzero(rows)]
            self.findings.mend(f'left out objects {reason}', ids)
            self.content['annotations'] = [
                a for a, out in zip(self.annotations, rows.tolist()) if not out
            ]

    def class_counts(self) -> Dict[str, int]:
        """Count the objects of each class, crowds left out."""
        counts = {c['id']: 0 for c in self.categories}
        for annotation in self.annotations:
            counts[annotation['category_id']] += not annotation['iscrowd']
        return {c['name']: counts[c['id']] for c in self.categories}

    def require_objects(self) -> None:
        """Refuse a file that gives nothing to learn or to evaluate.

        Raises:
            DataError: If it has no objects, or only crowds.
        """
        crowds = sum(self.column('iscrowd'))
        if crowds == len(self.annotations):
            cure = (
                f'all {crowds} objects are crowds (iscrowd=1), never '
                'trained on or counted: set iscrowd=0 where one object is '
                'meant'
            )
            none = 'no object to train on or to compare detections with'
            raise DataError(self.path, [cure if crowds else none])

    def require_masks(self) -> None:
        """Refuse objects without masks, for a model that has masks.

        Raises:
            DataError: If any object has a box but no mask, or most masks
                lie elsewhere than their boxes.
        """
        cure = 'for boxes only use configs/fasterrcnn_halvit_t.py'
        if ids := self.without_masks:
            sentence = (
                f'{len(ids)} of {len(self.annotations)} objects have a box '
                f'but no mask (annotation ids {some_of(ids)})'
            )
            raise DataError(self.path, [f'{sentence}: {cure}'])
        if self.misplaced_masks:
            sentence = (
                f'{self.misplaced_masks}; polygons count in pixels of the '
                'whole image, x, y, x, y, ...'
            )
            raise DataError(self.path, [f'{sentence}: {cure}'])

    def require_eight_bits(self) -> None:
        """Refuse integers of more bits, whose range is not declared.

        Raises:
            DataError: If any image that was looked at has them.
        """
        if ids := self.deep_images:
            sentence = (
                f'{len(ids)} images have more than 8 bits (ids '
                f'{some_of(ids)}): if their values use N bits, 9 to 16, set '
                'bit_depth=N in every LoadImageFromFile of the config'
            )
            raise DataError(self.path, [sentence])

    def describe(self) -> str:
        """Write one line: how much there is of what."""
        crowds = sum(self.column('iscrowd'))
        empty = len(self.images) - len(set(self.column('image_id')))
        counts = [f'{k} {n}' for k, n in self.class_counts().items()]
        return (
            f'{self.path}: {len(self.images)} images ({empty} without '
            f'objects), {len(self.annotations) - crowds} objects, {crowds} '
            f'crowds, {len(counts)} classes: {some_of(counts, 20)}'
        )
