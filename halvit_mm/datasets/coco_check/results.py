"""Detections as COCO's results, checked before anything decodes them."""

import math
from typing import Any, Dict, List, Optional

from .file import CocoFile
from .findings import DataError
from .outlines import FAR, fit_mask, fit_rle
from .values import read_json


def read_results(path: str, file: CocoFile) -> List[dict]:
    """Read detections and compare them with their annotations.

    Args:
        path: JSON of COCO's results, of boxes or masks.
        file: The annotations.

    Returns:
        The detections, each with an image, a category and a score; lists of
        polygons have only what can be drawn.

    Raises:
        FileNotFoundError: If there is no such file.
        DataError: At the first detection that is of no image or category of
            the annotations, or has a score, box or mask that is none.
    """
    content, _ = read_json(path)
    if not isinstance(content, list):
        cure = f'it holds a {type(content).__name__}, not a list of detections'
        raise DataError(path, [cure])
    sizes = {i['id']: [i['height'], i['width']] for i in file.images}
    categories = {category['id'] for category in file.categories}
    for number, result in enumerate(content):
        if fault := _fault(result, sizes, categories):
            where = f'detection {number} of {len(content)}'
            raise DataError(path, [f'{where}: {fault}'])
    return content


def _fault(result: Any, sizes: Dict, categories: set) -> Optional[str]:
    """What is wrong with a detection, or None."""
    if not isinstance(result, dict):
        return f'it is no object but {result!r:.80}'
    ids = result.get('image_id'), result.get('category_id')
    if not all(type(i) is int for i in ids) or (
        ids[0] not in sizes or ids[1] not in categories
    ):
        return (
            'it is not of these annotations, which have no image '
            f'{ids[0]!r:.40} or no category {ids[1]!r:.40}'
        )
    if not _is_number(result.get('score')):
        return f'its score is no number but {result.get("score")!r:.80}'
    box = result.get('bbox') or []
    if not isinstance(box, list) or len(box) not in (0, 4):
        return f'its bbox is not x, y, width, height but {box!r:.80}'
    if not all(_is_number(x) and abs(x) <= FAR for x in box):
        return f'its bbox is not of numbers to {FAR}: {box!r:.80}'
    mask, size = result.get('segmentation'), sizes[ids[0]]
    if isinstance(mask, list):
        result['segmentation'] = fit_mask(mask, box or [math.inf] * 4, size)
    elif mask and (not isinstance(mask, dict) or mask.get('size') != size):
        there = mask.get('size') if isinstance(mask, dict) else mask
        return f'its mask is of {there!r:.80}, its image of {size}'
    elif mask and ('counts' not in mask or fit_rle(mask) is None):
        return 'its mask (RLE) is cut or no run lengths'
    return None


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300
