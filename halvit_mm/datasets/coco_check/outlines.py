"""Masks as exporters write them, made polygons or compressed run lengths."""

import math
from typing import Any, Iterator, List, Optional, Tuple, Union

import numpy as np
from pycocotools import mask as coco_mask

from .values import read_id, read_numbers, read_text

Size = Tuple[int, int]  # height, width in pixels

#: No pixel is so far away, and pycocotools, which walks along each edge of a
#: polygon, crashes on coordinates without end, and of edges without end.
FAR = 10**6
_LENGTH = 10**7


def is_polygons(mask: Any) -> bool:
    """Whether a mask is what nearly all are; called for each object."""
    if type(mask) is not list or not mask:
        return False
    for part in mask:
        if type(part) is not list or len(part) < 6 or len(part) % 2:
            return False
        try:
            high, low = max(part), min(part)
            if high > FAR or low < -FAR:
                return False
            if (high - low) * len(part) > _LENGTH:  # looked at closely
                return False
            if type(part[0]) not in (int, float):
                return False
        except TypeError:  # of None, text or lists among them
            return False
    return True


def fit_mask(
    mask: Any, box: List[float], size: Size
) -> Union[List[List[float]], dict]:
    """Make polygons or run lengths of what can be read as a mask.

    Args:
        mask: Polygons, one of them as a flat list or a list of points, run
            lengths, or any of these as text or inside of another list.
        box: x, y, width, height.
        size: Of the image.

    Returns:
        Polygons, none if there are none; or run lengths with their size,
        see :func:`fit_rle`.
    """
    mask = read_text(mask)
    if isinstance(mask, list) and len(mask) == 1 and _is_rle(mask[0]):
        mask = mask[0]
    if _is_rle(mask):
        there = mask.get('size') or list(size)
        if isinstance(there, list):
            there = [read_id(x) for x in there]
        return dict(mask, size=there)
    found = []
    for part in _outlines(mask):
        if len(part) == 4:
            part = _rectangle(part, box)
        if len(part) >= 6 and len(part) % 2 == 0:
            found.append(part)
    return [p for p in found if _is_drawable(p)]


def _is_drawable(part: List[float]) -> bool:
    """Whether pycocotools can walk along a polygon."""
    if max(part) > FAR or min(part) < -FAR:
        return False
    points = list(zip(part[::2], part[1::2]))
    return sum(map(math.dist, points, points[1:])) <= _LENGTH


def _is_rle(mask: Any) -> bool:
    return isinstance(mask, dict) and 'counts' in mask


def _outlines(mask: Any, depth: int = 4) -> Iterator[List[float]]:
    """Find x, y, x, y, ... in lists of numbers, points and such lists."""
    if not isinstance(mask, list) or not mask or not depth:
        return
    if (numbers := read_numbers(mask)) is not None:
        yield numbers
        return
    points = [
        read_numbers([p.get('x'), p.get('y')] if isinstance(p, dict) else p)
        for p in mask
    ]
    if all(p is not None and len(p) == 2 for p in points):
        yield sum(points, [])
        return
    for part in mask:
        yield from _outlines(part, depth - 1)


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


def fit_rle(mask: dict) -> Optional[dict]:
    """Compress run lengths.

    Args:
        mask: ``size``, height and width, and ``counts``, numbers or text.

    Returns:
        The same with ``counts`` as text; None if they do not fill the image.
    """
    counts, (height, width) = mask['counts'], mask['size']
    if isinstance(counts, str):
        if counts.startswith(("b'", 'b"')):  # bytes of Python as text
            counts = counts[2:-1].replace('\\\\', '\\')
        if _total(counts) != height * width:
            return None
        return mask if counts is mask['counts'] else dict(mask, counts=counts)
    if (
        not isinstance(counts, list)
        or not all(type(n) is int and n >= 0 for n in counts)
        or sum(counts) != height * width
    ):
        return None
    rle = coco_mask.frPyObjects(mask, height, width)
    return {'size': [height, width], 'counts': rle['counts'].decode()}


def _total(counts: str) -> int:
    """Add up compressed run lengths; -1 if they are none.

    A character has 5 bits of a number and one that says whether more follow;
    from the fourth on, numbers are differences to the last but one, as in
    pycocotools' ``rleFrString``. Decoding would take time with the size of
    the image.
    """
    text = counts.encode(errors='replace')  # of half a surrogate
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if not codes.size or codes.min() < 0 or codes.max() > 63:
        return -1
    (ends,) = np.nonzero(codes < 32)
    if not ends.size or ends[-1] != codes.size - 1:
        return -1
    lengths = np.diff(ends, prepend=-1)
    if lengths.max() > 12:  # more than 60 bits
        return -1
    starts = ends - lengths + 1
    shifts = 5 * (np.arange(codes.size) - np.repeat(starts, lengths))
    runs = np.add.reduceat((codes & 31) << shifts, starts)
    runs -= (codes[ends] & 16 > 0) * (1 << 5 * lengths)  # the sign
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return int(runs.sum()) if runs.min() >= 0 else -1
