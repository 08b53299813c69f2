"""Checks of image sizes, flags and boxes."""

from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, Tuple

import numpy as np

from .file import CocoFile
from .findings import some_of
from .missing import leaves
from .values import read_flag, read_number, read_text

# Shares of a file's boxes from which they are taken for another convention.
_NORMALISED, _OUTSIDE = 0.9, 0.1
_PIXELS = 2**30  # that OpenCV reads


def check_sizes(file: CocoFile) -> None:
    """Ask for the width and height of each image; read what is missing."""
    from .images import image_size  # which needs Pillow

    unknown, changed = [], []
    for image in file.images:
        size = image.get('width'), image.get('height')
        if type(size[0]) is int and type(size[1]) is int and min(size) > 0:
            continue
        size = tuple(map(read_number, size))
        if all(s > 0 and s.is_integer() for s in size):
            size = tuple(map(int, size))
        elif file.folder is None or leaves(file.folder, image['file_name']):
            unknown.append(image['id'])
            continue
        else:
            size = image_size(Path(file.folder, image['file_name']))
            if size is None:
                unknown.append(image['id'])
                continue
        image['width'], image['height'] = size
        changed.append(image['id'])
    large = [
        image['id']
        for image in file.images
        if image['id'] not in unknown
        and image['width'] * image['height'] > _PIXELS
    ]
    if large:
        file.findings.error(
            f'{len(large)} images have more than 2^30 pixels, which is more '
            f'than OpenCV reads: ids {some_of(large)}'
        )
    if changed:
        file.findings.mend('width or height missing or no number', changed)
    if unknown:
        file.findings.error(
            f'{len(unknown)} images have no width and height, and no file '
            f'that tells them (ids {some_of(unknown)}): write a file with '
            'them by tools/dataset_converters/check_dataset.py ANN IMAGES '
            '--fix OUT'
        )


def check_flags(file: CocoFile) -> None:
    """Make ``iscrowd`` 0 or 1; what is to be ignored becomes a crowd.

    The host leaves objects with ``ignore`` out of training, and evaluators
    count them; as a crowd they are ignored by both.
    """
    found = file.column('iscrowd')
    changed = []
    if not {type(v) for v in found} <= {int} or not {0, 1}.issuperset(found):
        for annotation, value in zip(file.annotations, found):
            flag = read_flag(value)
            if type(value) is not int or value != flag:
                annotation['iscrowd'] = int(flag)
                changed.append(annotation['id'])
    if changed:
        file.findings.mend('iscrowd missing or no number', changed)
    ignored = [a for a in file.annotations if read_flag(a.pop('ignore', 0))]
    for annotation in ignored:
        annotation['iscrowd'] = 1
    if ignored:
        ids = [annotation['id'] for annotation in ignored]
        file.findings.mend('"ignore" is now iscrowd=1', ids)


def read_boxes(file: CocoFile) -> Tuple[np.ndarray, np.ndarray]:
    """Read all boxes and the sizes of their images.

    Args:
        file: M annotations whose references are checked.

    Returns:
        (M, 4) x, y, width, height, NaN where they cannot be read; (M, 2)
        width and height of the image; both float64, in pixels.
    """
    sizes = {i['id']: (i['width'], i['height']) for i in file.images}
    sizes = [s for i in file.column('image_id') for s in sizes[i]]
    found = file.column('bbox')
    try:
        flat = list(chain.from_iterable(found))
    except TypeError:  # None or a number among them
        flat = [None]
    boxes = None
    if set(map(type, flat)) <= {int, float} and set(map(len, found)) == {4}:
        with suppress(OverflowError):  # numbers of hundreds of digits
            boxes = np.array(flat, np.float64).reshape(-1, 4)
    if boxes is None:
        boxes = np.full((len(found), 4), np.nan)
        for row, box in enumerate(found):
            box = _listed(box)
            if isinstance(box, list) and len(box) == 4:
                boxes[row] = [read_number(x) for x in box]
                file.annotations[row]['bbox'] = boxes[row].tolist()
    return boxes, np.array(sizes, np.float64).reshape(-1, 2)


def _listed(box: Any) -> Any:
    """Make a list of a box that is text, an object or inside of a list."""
    box = read_text(box)
    if isinstance(box, list) and len(box) == 1:
        box = box[0]
    if isinstance(box, dict):
        w, h = (box.get(k, box.get(k[0])) for k in ('width', 'height'))
        box = [box.get('x'), box.get('y'), w, h]
    return box


def check_boxes(file: CocoFile) -> None:
    """Leave out what is no box, and refuse other conventions.

    A box is to be finite, at least one pixel wide and high as in the host's
    training, and to touch its image.
    """
    if not file.annotations:
        return
    boxes, sizes = read_boxes(file)
    missing = np.isnan(boxes).all(1)
    if missing.any():
        _boxes_of_masks(file, np.flatnonzero(missing), boxes)
    finite = np.isfinite(boxes).all(1)
    x, y, w, h = np.where(finite[:, None], boxes, 0).T
    real = finite & (w > 0) & (h > 0)
    count = max(real.sum(), 1)
    normalised = real & (
        np.max(boxes, 1, initial=0, where=finite[:, None]) <= 1
    )
    if normalised.sum() > _NORMALISED * count:
        file.findings.error(
            f'the boxes look normalised: {normalised.sum()} of {count} lie '
            f'within 0 to 1, such as {file.annotations[0]["bbox"]}; COCO '
            'counts in pixels, x, y, width, height'
        )
        return
    outside = real & ((x + w > sizes[:, 0] + 1) | (y + h > sizes[:, 1] + 1))
    as_corners = ((w > x) & (h > y))[real].all()
    if as_corners and outside.sum() > _OUTSIDE * count:
        file.findings.error(
            f'the boxes look like corners x1, y1, x2, y2: {outside.sum()} of '
            f'{count} leave their image, such as that of annotation '
            f'{file.annotations[int(outside.argmax())]["id"]}; COCO has x, '
            'y, width, height'
        )
        return
    # as mmdet's CocoDataset.parse_data_info, which does not tell
    inside_w = np.minimum(x + w, sizes[:, 0]) - np.maximum(x, 0)
    inside_h = np.minimum(y + h, sizes[:, 1]) - np.maximum(y, 0)
    real &= (inside_w > 0) & (inside_h > 0) & (w >= 1) & (h >= 1)
    outside &= real
    if outside.any():
        ids = [file.annotations[i]['id'] for i in np.flatnonzero(outside)]
        file.findings.warn(
            f'{len(ids)} boxes reach over the border of their image: '
            f'annotation ids {some_of(ids)}'
        )
    if not real.any():
        file.findings.error(
            f'none of the {len(boxes)} boxes is one, such as '
            f'{file.annotations[0].get("bbox")}: COCO has x, y, width, '
            'height in pixels'
        )
        return
    file.drop(
        ~real,
        'whose box is missing, not finite, less than a pixel, or outside',
    )


def _boxes_of_masks(
    file: CocoFile, rows: np.ndarray, boxes: np.ndarray
) -> None:
    """Compute boxes, in place, of annotations that have only a mask."""
    from .masks import box_of  # which needs pycocotools

    sizes = {i['id']: (i['height'], i['width']) for i in file.images}
    changed = []
    for row in rows:
        annotation = file.annotations[row]
        box = box_of(annotation, sizes[annotation['image_id']])
        if box is not None and not annotation.get('bbox'):
            annotation['bbox'] = boxes[row] = box
            changed.append(annotation['id'])
    if changed:
        file.findings.mend('boxes computed from masks', changed)


def check_repeats(file: CocoFile) -> None:
    """Warn of objects that are there twice: one detection finds only one."""
    seen, repeated = set(), []
    for a in file.annotations:
        key = a['image_id'], a['category_id'], *a['bbox']
        if key in seen:
            repeated.append(a['id'])
        seen.add(key)
    if repeated:
        file.findings.warn(
            f'{len(repeated)} objects have the class and box of another one '
            f'in their image: annotation ids {some_of(repeated)}'
        )
