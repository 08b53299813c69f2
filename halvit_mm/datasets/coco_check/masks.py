"""Checks of masks and areas."""

import math
from typing import List, Optional

from pycocotools import mask as coco_mask

from .file import CocoFile
from .findings import some_of
from .outlines import Size, fit_mask, fit_rle, is_polygons

#: Corners of polygons that are looked at for an empty mask: those of exports
#: which have none are few.
_FEW = 4


def check_masks(file: CocoFile) -> None:
    """Make all masks lists of polygons or compressed run lengths.

    Objects that have none are noted in ``file.without_masks``.
    """
    sizes = {i['id']: (i['height'], i['width']) for i in file.images}
    changed, broken, misfits, cut, empty = [], [], [], [], []
    for annotation in file.annotations:
        mask, number = annotation.get('segmentation'), annotation['id']
        size = sizes[annotation['image_id']]
        if file.has_constants or not is_polygons(mask):
            fitting = fit_mask(mask, annotation['bbox'], size)
            if isinstance(fitting, dict):
                if fitting['size'] != list(size):
                    misfits.append((number, fitting['size'], size))
                    continue
                if (fitting := fit_rle(fitting)) is None:
                    cut.append(number)
                    continue
            if fitting != mask and not fitting:
                broken.append(number)
            elif fitting != mask and not annotation['iscrowd']:
                changed.append(number)  # COCO's crowds are uncompressed
            annotation['segmentation'] = fitting
            if not fitting:
                file.without_masks.append(number)
        if _is_empty(annotation, size):
            empty.append(number)
    if misfits:
        number, there, size = misfits[0]
        file.findings.error(
            f'{len(misfits)} masks (RLE) are not of the size of their image: '
            f'that of annotation {number} has {there}, the image {list(size)} '
            '(height, width)'
        )
    if cut:
        file.findings.error(
            f'{len(cut)} masks (RLE) are cut or no run lengths: annotation '
            f'ids {some_of(cut)}; export them again, or leave them out'
        )
    if changed:
        file.findings.mend(
            'masks that were uncompressed, flat lists, lists of points, text '
            'or partly no polygons',
            changed,
        )
    if broken:
        file.findings.mend('masks without any polygon, now empty', broken)
    if empty:
        file.findings.warn(
            f'{len(empty)} masks cover no pixel, which no detection can '
            f'match: annotation ids {some_of(empty)}'
        )


def _is_empty(annotation: dict, size: Size) -> bool:
    """Whether a mask covers no pixel; of polygons only simple ones."""
    mask = annotation.get('segmentation')
    if not mask or (
        isinstance(mask, list)
        and max(map(len, mask)) > 2 * _FEW
        and annotation.get('area')
    ):
        return False
    return coco_mask.area(_rle_of(annotation, size)) == 0


def _rle_of(annotation: dict, size: Size) -> Optional[dict]:
    """Run lengths of a mask that is checked, or None without one."""
    mask = annotation.get('segmentation')
    if not mask:
        return None
    if isinstance(mask, dict):
        return mask
    return coco_mask.merge(coco_mask.frPyObjects(mask, *size))


def box_of(annotation: dict, size: Size) -> Optional[List[float]]:
    """Compute the box of a mask.

    Args:
        annotation: With or without a mask, not yet checked.
        size: Height and width of its image in pixels.

    Returns:
        x, y, width, height in pixels, or None without a mask.
    """
    mask = fit_mask(annotation.get('segmentation'), [math.inf] * 4, size)
    if isinstance(mask, dict):
        mask = fit_rle(mask) if mask['size'] == list(size) else None
    rle = _rle_of({'segmentation': mask}, size)
    return None if rle is None else coco_mask.toBbox(rle).tolist()


def check_areas(file: CocoFile) -> None:
    """Compute areas that are missing or 0, from the mask or else the box."""
    sizes = {i['id']: (i['height'], i['width']) for i in file.images}
    changed = []
    for annotation, area in zip(file.annotations, file.column('area')):
        if type(area) in (int, float) and 0 < area < math.inf:
            continue
        rle = _rle_of(annotation, sizes[annotation['image_id']])
        area = 0.0 if rle is None else float(coco_mask.area(rle))
        _, _, width, height = annotation['bbox']
        annotation['area'] = area or float(width * height)
        changed.append(annotation['id'])
    if changed:
        file.findings.mend('areas that were missing or 0', changed)


def check_places(file: CocoFile, limit: int = 2000) -> None:
    """Warn where polygons lie elsewhere than their boxes.

    Where most do not even touch them, ``file.misplaced_masks`` says so.

    Args:
        file: After all other checks.
        limit: Objects that are looked at, evenly over the file.
    """
    step = max(1, len(file.annotations) // limit)
    apart, untouched, count = [], 0, 0
    for annotation in file.annotations[::step]:
        mask = annotation.get('segmentation')
        if not mask or isinstance(mask, dict):
            continue
        count += 1
        points = sum(mask, [])
        x, y, w, h = annotation['bbox']
        left, top = min(points[::2]), min(points[1::2])
        right, bottom = max(points[::2]), max(points[1::2])
        common = max(0, min(right, x + w) - max(left, x)) * max(
            0, min(bottom, y + h) - max(top, y)
        )
        both = (right - left) * (bottom - top) + w * h - common
        if common < 0.5 * both:
            apart.append(annotation['id'])
            untouched += common == 0
    if apart:
        sentence = (
            f'{len(apart)} of {count} masks looked at lie elsewhere than '
            f'their boxes: annotation ids {some_of(apart)}'
        )
        file.findings.warn(sentence)
        if 2 * untouched > count:
            file.misplaced_masks = sentence
