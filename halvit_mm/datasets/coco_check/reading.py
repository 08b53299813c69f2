"""Reading and checking of an annotation file, once in a process."""

import contextlib
import gc
import os
from collections import OrderedDict
from typing import Any, Iterator, Optional

from . import boxes, ids, kinds, masks
from .file import CocoFile
from .findings import DataError
from .values import read_json

#: In this order: later checks rely on what earlier ones have mended.
_CHECKS = (
    kinds.check_keypoints,
    ids.check_ids,
    ids.check_categories,
    ids.check_references,
    ids.check_file_names,
    boxes.check_sizes,
    boxes.check_flags,
    boxes.check_boxes,
    masks.check_masks,
    masks.check_areas,
    masks.check_places,
    boxes.check_repeats,
)
#: Files that stay in memory for the next reader: as long as they are small
#: together, in bytes of JSON, and else the latest alone.
_KEPT_BYTES = 64 * 2**20
#: What the lists hold at least.
_SUCH = dict(
    images='{"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}',
    annotations='{"id": 1, "image_id": 1, "category_id": 1, "bbox": [...]}',
    categories='{"id": 1, "name": "cat"}',
)
_kept: 'OrderedDict[tuple, CocoFile]' = OrderedDict()


def read_coco(path: Any, folder: Optional[str] = None) -> CocoFile:
    """Read, check and mend an annotation file.

    A file that was read in this process, and has not changed since, is not
    read again.

    Args:
        path: JSON of COCO's detection format.
        folder: Folder of the images, from which sizes are read that the file
            lacks.

    Returns:
        The file, mended.

    Raises:
        FileNotFoundError: If there is no such file.
        DataError: If it is no annotation file or cannot be mended.
    """
    path = os.fspath(path)
    stat = os.stat(path)
    key = (os.path.realpath(path), stat.st_mtime_ns, stat.st_size)
    if key not in _kept:
        with _without_collection():
            file = _parse(path, folder)
            for check in _CHECKS:
                check(file)
                file.findings.raise_errors()
        _kept[key] = file
        while len(_kept) > 1 and sum(k[-1] for k in _kept) > _KEPT_BYTES:
            _kept.popitem(last=False)
    _kept.move_to_end(key)
    return _kept[key]


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Pause the garbage collector: it looks at millions of new objects."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _parse(path: str, folder: Optional[str]) -> CocoFile:
    content, has_constants = read_json(path)
    _check_structure(path, content)
    return CocoFile(path, content, has_constants, folder)


def _check_structure(path: str, content: Any) -> None:
    """Refuse what is no annotation file; all three lists are there then."""
    if not isinstance(content, dict):
        cure = (
            f'it holds a {type(content).__name__}, as a file of results does; '
            'annotations are an object with "images", "annotations" and '
            '"categories"'
        )
        raise DataError(path, [cure])
    errors = [
        f'it has no "{name}", but {list(content)[:9]}'
        for name in ('images', 'categories')
        if not content.get(name)
    ]
    content.setdefault('info', {})  # which pycocotools before 2.0.11 needs
    for name in _SUCH:  # COCO's test images have no annotations
        found = content.get(name) or []
        # some data sets have id -> object
        is_table = isinstance(found, dict)
        content[name] = list(found.values()) if is_table else found
    others = [
        f'"{name}" is no list of objects, such as {_SUCH[name]}'
        for name in _SUCH
        if not isinstance(content[name], list)
        or not all(type(item) is dict for item in content[name])
    ]
    if others:
        errors += others
    elif kind := kinds.describe_kind(content['annotations']):
        errors = [kind]  # and not what it lacks
    if errors:
        raise DataError(path, errors)
