"""Checks of masks and areas."""

import math
from typing import Any, List, Optional, Tuple

from pycocotools import mask as coco_mask

from .file import CocoFile
from .findings import some_of

_Size = Tuple[int, int]  # height, width in pixels


def check_masks(file: CocoFile) -> None:
    """Make all masks lists of polygons or compressed run lengths.

    Objects that have none are noted in ``file.without_masks``.
    """
    sizes = {i['id']: (i['height'], i['width']) for i in file.images}
    changed, broken, misfits = [], [], []
    for annotation in file.annotations:
        mask = annotation.get('segmentation')
        if not file.has_constants and _is_polygons(mask):
            continue
        size = sizes[annotation['image_id']]
        if isinstance(mask, dict):
            fitting = _check_rle(mask, size)
            if fitting is None:
                misfits.append((annotation['id'], mask.get('size'), size))
                continue
        else:
            fitting = _polygons_of(mask, annotation['bbox'])
        if fitting != mask:
            annotation['segmentation'] = fitting
            if not fitting:
                broken.append(annotation['id'])
            elif not annotation['iscrowd']:  # COCO's crowds are uncompressed
                changed.append(annotation['id'])
        if not fitting:
            file.without_masks.append(annotation['id'])
    if misfits:
        number, there, size = misfits[0]
        file.findings.error(
            f'{len(misfits)} masks (RLE) are not of the size of their image: '
            f'that of annotation {number} has {there}, the image {list(size)} '
            '(height, width)'
        )
    if changed:
        file.findings.mend(
            'masks that were uncompressed, flat lists, lists of points or '
            'partly no polygons',
            changed,
        )
    if broken:
        file.findings.mend('masks without any polygon, now empty', broken)


def _is_polygons(mask: Any) -> bool:
    """Whether a mask is what nearly all are; called for each object."""
    if type(mask) is not list or not mask:
        return False
    for part in mask:
        if (
            type(part) is not list
            or len(part) < 6
            or len(part) % 2
            or type(part[0]) not in (int, float)
        ):
            return False
    return True


def _polygons_of(mask: Any, box: List[float]) -> List[List[float]]:
    """Make a list of polygons of what can be read as one, else an empty one.

    Args:
        mask: Polygons, or one as a flat list or as a list of points.
        box: x, y, width, height.
    """
    if not isinstance(mask, list) or not mask:
        return []
    if not isinstance(mask[0], (list, dict)):
        mask = [mask]  # one flat polygon
    elif all(_numbers(part) is not None and len(part) == 2 for part in mask):
        mask = [sum(mask, [])]  # one list of points
    found = []
    for part in mask:
        part = _numbers(part)
        if part is None:
            continue
        if len(part) == 4:
            part = _rectangle(part, box)
        if len(part) >= 6 and len(part) % 2 == 0:
            found.append(part)
    return found


def _numbers(part: Any) -> Optional[List[float]]:
    """Return the part if it is a list of finite numbers, else None."""
    if isinstance(part, list) and all(
        type(x) in (int, float) and math.isfinite(x) for x in part
    ):
        return part
    return None


def _rectangle(part: List[float], box: List[float]) -> List[float]:
    """Corners of the box, if four numbers mean it; else no polygon.

    Evaluators take four numbers for x, y, width, height, and the host's
    training drops them.
    """
    x, y, w, h = box
    for other in ((x, y, w, h), (x, y, x + w, y + h)):
        if max(abs(a - b) for a, b in zip(part, other)) <= 1:
            return [x, y, x + w, y, x + w, y + h, x, y + h]
    return []


def _check_rle(mask: dict, size: _Size) -> Optional[dict]:
    """Return run lengths, compressed; None if they are of another size."""
    height, width = size
    counts = mask.get('counts')
    if mask.get('size') != [height, width]:
        return None
    if isinstance(counts, str):
        return mask
    if (
        not isinstance(counts, list)
        or not all(type(n) is int and n >= 0 for n in counts)
        or sum(counts) != height * width
    ):
        return None
    rle = coco_mask.frPyObjects(mask, height, width)
    return {'size': [height, width], 'counts': rle['counts'].decode()}


def _rle_of(annotation: dict, size: _Size) -> Optional[dict]:
    """Run lengths of a mask that is checked, or None without one."""
    mask = annotation.get('segmentation')
    if not mask:
        return None
    if isinstance(mask, dict):
        return mask
    return coco_mask.merge(coco_mask.frPyObjects(mask, *size))


def box_of(annotation: dict, size: _Size) -> Optional[List[float]]:
    """Compute the box of a mask.

    Args:
        annotation: With or without a mask, not yet checked.
        size: Height and width of its image in pixels.

    Returns:
        x, y, width, height in pixels, or None without a mask.
    """
    mask = annotation.get('segmentation')
    if isinstance(mask, dict):
        mask = _check_rle(mask, size)
    else:
        mask = _polygons_of(mask, [math.inf] * 4)
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

    Args:
        file: After all other checks.
        limit: Objects that are looked at, evenly over the file.
    """
    step = max(1, len(file.annotations) // limit)
    apart, count = [], 0
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
    if apart:
        file.findings.warn(
            f'{len(apart)} of {count} masks looked at lie elsewhere than '
            f'their boxes: annotation ids {some_of(apart)}'
        )
