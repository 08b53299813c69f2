"""mmdet's COCO data set on annotations that are checked and mended."""

import contextlib
import io
import logging
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, Iterator, List, Mapping, Optional

import cv2
from mmdet.datasets import CocoDataset as MMDetCocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmengine.logging import print_log

from ..registry import DATASETS
from .coco_check import CocoFile, DataError, check_images, read_coco
from .coco_check.findings import some_of
from .palettes import palette_for

_UNREADABLE = (
    'the image files {} cannot be read, and the evaluation would end at the '
    'first: copy them again, or leave them out by '
    'tools/dataset_converters/check_dataset.py ANN IMAGES --fix OUT'
)


class CheckedCOCO(COCO):
    """The index of pycocotools over a checked annotation file.

    Args:
        annotation_file: JSON of COCO's detection format.
        folder: Folder of the images, see :func:`.read_coco`.
        copies: Whether the annotations are copied: evaluators write into
            them, and the content of a file is shared.
    """

    def __init__(
        self,
        annotation_file: Optional[str] = None,
        folder: Optional[str] = None,
        copies: bool = False,
    ) -> None:
        super().__init__()
        if annotation_file is None:
            return
        self.file: CocoFile = read_coco(annotation_file, folder)
        self.dataset = dict(self.file.content)
        if copies:
            self.dataset['annotations'] = list(
                map(dict, self.file.annotations)
            )
        with contextlib.redirect_stdout(io.StringIO()):
            self.createIndex()
        self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs

    # the names of pycocotools
    def getCatIds(self, catNms=(), supNms=(), catIds=()):  # noqa: N802, N803
        """Return the ids of categories, in the order of the names asked for.

        Raises:
            ValueError: If the file does not have one of the names.
        """
        names = [catNms] if isinstance(catNms, str) else list(catNms)
        ids = super().getCatIds(names, list(supNms), list(catIds))
        if not names:
            return ids
        by_name = {self.cats[i]['name']: i for i in ids}
        if unknown := [name for name in names if name not in by_name]:
            there = [category['name'] for category in self.cats.values()]
            raise ValueError(
                f'{self.file.path} has no classes {unknown}.\n'
                f'  classes of the config:   {names}\n'
                f'  classes of the JSON:     {there}\n'
                'Take them from the training JSON with `--cfg-options '
                'classes=auto`, which also sets num_classes in every head; '
                'if that has more than this file, add them to its '
                '"categories", where they need no objects'
            )
        return [by_name[name] for name in names]


@DATASETS.register_module()
class CocoDataset(MMDetCocoDataset):
    """COCO detection as mmdet reads it, after one pass over the annotations.

    What is there, what was mended and what is left out is logged; see
    :mod:`halvit_mm.datasets.coco_check`. Classes are found by their names,
    whatever their order in the file.

    The arguments are those of ``mmdet.CocoDataset``.

    Raises:
        FileNotFoundError: If the annotation file or the image folder is
            missing.
        DataError: If the annotations or images cannot be used as they are,
            or nothing is left to train on.
        ValueError: If the annotation file lacks a class, or the classes are
            written twice or by their older name.
    """

    @classmethod
    def _load_metainfo(cls, metainfo: Optional[Mapping] = None) -> dict:
        """Read the classes as mmengine does.

        A single name is one class, not a list of letters, and every class
        has a colour: mmdet has 80 of them.
        """
        meta = super()._load_metainfo(metainfo)
        if 'CLASSES' in meta:
            raise ValueError(
                'metainfo.CLASSES is of older versions and has no effect: '
                'write metainfo=dict(classes=...)'
            )
        if isinstance(meta['classes'], str):  # ('cat') is no tuple
            meta['classes'] = (meta['classes'],)
        counts = Counter(meta['classes'])
        if repeated := [name for name, n in counts.items() if n > 1]:
            raise ValueError(f'metainfo.classes has {repeated} several times')
        if len(meta['classes']) > len(meta.get('palette', ())):
            meta['palette'] = palette_for(len(meta['classes']))
        return meta

    def load_data_list(self) -> List[dict]:
        """Check the annotations and read them as mmdet does."""
        folder = self.data_prefix['img']
        if not Path(self.ann_file).is_file():
            raise _missing(f'there is no annotation file {self.ann_file}')
        if not Path(folder).is_dir():
            raise _missing(f'there is no image folder {folder}')
        file = read_coco(self.ann_file, folder)
        transforms = list(_flat(self.pipeline))
        if not self.test_mode:
            file.require_objects()
        if any(getattr(t, 'with_mask', False) for t in transforms):
            file.require_masks()
        colours = (getattr(t, 'color_type', '') for t in transforms)
        oriented = not any(c.endswith('ignore_orientation') for c in colours)
        unreadable = check_images(file, folder, oriented)
        decoders = {getattr(t, 'imdecode_backend', '') for t in transforms}
        if self.test_mode and 'cv2' in decoders:
            _require_readable(file, folder, unreadable)
        if any(getattr(t, 'bit_depth', 8) is None for t in transforms):
            file.require_eight_bits()
        self._say(file)
        self.COCOAPI = partial(CheckedCOCO, folder=folder)
        return super().load_data_list()

    def filter_data(self) -> List[dict]:
        """Leave images out as mmdet does, but not all of them."""
        kept = super().filter_data()
        if self.data_list and not kept:
            sentence = (
                f'filter_cfg={dict(self.filter_cfg)} leaves none of its '
                f'{len(self.data_list)} images: relax min_size or set '
                'filter_empty_gt=False'
            )
            raise DataError(self.ann_file, [sentence])
        objects = (x for info in kept for x in info['instances'])
        if not (self.test_mode or any(not x['ignore_flag'] for x in objects)):
            sentence = (
                f'it has no object of the classes {self.metainfo["classes"]} '
                'to train on; classes=auto takes all classes of the file'
            )
            raise DataError(self.ann_file, [sentence])
        if count := len(self.data_list) - len(kept):
            print_log(
                f'{self.ann_file}: {count} of {len(self.data_list)} images '
                f'are not trained on, as filter_cfg={dict(self.filter_cfg)} '
                'says: without objects of the classes, or smaller than '
                'min_size',
                logger='current',
                level=logging.WARNING,
            )
        return kept

    def _say(self, file: CocoFile) -> None:
        print_log(file.describe(), logger='current')
        for line in file.findings.lines():
            print_log(line, logger='current', level=logging.WARNING)
        here = [c['name'] for c in file.categories]
        asked = [n for n in self.metainfo['classes'] if n in here]
        if asked != [name for name in here if name in asked]:
            print_log(
                f'{file.path}: its classes are in another order than those of '
                'the data set: found by their names',
                logger='current',
                level=logging.WARNING,
            )


def _require_readable(file: CocoFile, folder: str, numbers: List[int]) -> None:
    """Refuse images, of those that Pillow cannot read, that OpenCV cannot."""
    unreadable = set(numbers)
    paths = [
        str(Path(folder, image['file_name']))
        for image in file.images
        if image['id'] in unreadable
    ]
    broken = [p for p in paths if cv2.imread(p, cv2.IMREAD_UNCHANGED) is None]
    if broken:
        raise DataError(file.path, [_UNREADABLE.format(some_of(broken))])


def _flat(pipeline: Any) -> Iterator[Any]:
    """Iterate over transforms, also inside of others."""
    for transform in getattr(pipeline, 'transforms', []):
        yield transform
        yield from _flat(transform)


def _missing(what: str) -> FileNotFoundError:
    return FileNotFoundError(
        f'{what}; set the folder with `--cfg-options data_root=...`; it holds '
        'the annotation files and image folders that the config names'
    )
