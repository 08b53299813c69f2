"""Checks of annotations against the image files."""

import os
from pathlib import Path
from typing import Dict, List, Optional, Set, Tuple

from PIL import Image

from .file import CocoFile
from .findings import DataError, some_of

_ORIENTATION = 0x0112  # the EXIF tag
_TURNED = (5, 6, 7, 8)  # its values that exchange width and height
_CLEAN = 'tools/dataset_converters/check_dataset.py ANN IMAGES --fix OUT'


def image_size(path: Path, oriented: bool = True) -> Optional[Tuple[int, int]]:
    """Read the size of an image from its header.

    Args:
        path: Image file.
        oriented: Whether the EXIF orientation is followed, as loaders do.

    Returns:
        Width and height in pixels; None if it cannot be read.
    """
    try:
        with Image.open(path) as image:
            size = image.size
            # Of a PNG without the entry, Pillow would decode all pixels.
            has_exif = image.format != 'PNG' or 'exif' in image.info
            exif = image.getexif() if oriented and has_exif else {}
            turned = exif.get(_ORIENTATION) in _TURNED
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return size[::-1] if turned else size


def check_images(
    file: CocoFile,
    folder: str,
    oriented: bool = True,
    limit: Optional[int] = 2000,
    decode: bool = False,
) -> List[int]:
    """Compare an annotation file with the images of a folder.

    Args:
        file: The annotations; notes warnings.
        folder: Folder of the images.
        oriented: Whether the images are loaded as EXIF turns them.
        limit: Headers that are read, evenly over the file; None for all.
        decode: Whether images are decoded, which finds cut files.

    Returns:
        Ids of images that cannot be read, which is a warning.

    Raises:
        DataError: If files are missing or have another size.
    """
    key = (os.path.realpath(folder), oriented, limit, decode)
    if key in file.compared:
        return []
    errors = _missing_files(file, folder)
    if errors:
        raise DataError(file.path, errors)
    step = max(1, len(file.images) // limit) if limit else 1
    unreadable, misfits = [], []
    for image in file.images[::step]:
        path = Path(folder, image['file_name'])
        size = image_size(path, oriented)
        if size is None or (decode and not decodes(path)):
            unreadable.append(image['id'])
        elif size != (image['width'], image['height']):
            misfits.append(_describe_misfit(image, path, size, oriented))
    if misfits:
        raise DataError(
            file.path,
            [f'{len(misfits)} images have another size:', *misfits[:5]],
        )
    if unreadable:
        file.findings.warn(
            f'{len(unreadable)} image files cannot be read: ids '
            f'{some_of(unreadable)}'
        )
    file.compared.add(key)
    return unreadable


def decodes(path: Path) -> bool:
    """Whether an image can be decoded to its end."""
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, ValueError, SyntaxError):
        return False
    return True


def _describe_misfit(
    image: dict, path: Path, size: Tuple[int, int], oriented: bool
) -> str:
    there = image['width'], image['height']
    text = (
        f'{path} is {size[0]} x {size[1]}, annotated as {there[0]} x '
        f'{there[1]} (width x height)'
    )
    if image_size(path, not oriented) == there:
        return text + (
            ': it is turned by its EXIF orientation. Set color_type='
            "'color_ignore_orientation' in LoadImageFromFile of all pipelines"
            if oriented
            else ': the annotations are of the image as EXIF turns it. Remove '
            'color_ignore_orientation from LoadImageFromFile'
        )
    if there == size[::-1]:
        return f'{text}: exchange them ({_CLEAN} does)'
    return f'{text}: the annotations are of another image or size'


def _missing_files(file: CocoFile, folder: str) -> List[str]:
    """Describe the files that are not there, with a cure for each kind."""
    there: Dict[str, Set[str]] = {}
    missing, leaving = [], []
    root = os.path.realpath(folder)
    for image in file.images:
        name = image['file_name']
        if name.startswith('/') or '..' in name.split('/'):
            full = os.path.realpath(os.path.join(folder, name))
            if not full.startswith(root + os.sep):
                leaving.append(name)
                continue
        parent, _, base = name.rpartition('/')
        if parent not in there:
            there[parent] = _names_in(os.path.join(folder, parent))
        if base not in there[parent]:
            missing.append(name)
    errors = []
    if leaving:
        errors.append(
            f'{len(leaving)} file names leave the folder {folder}: '
            f'{some_of(leaving)}; set data_prefix.img to a folder above all '
            'of them'
        )
    if missing:
        errors.append(
            f'{len(missing)} of {len(file.images)} images are not in '
            f'{folder}: {some_of(missing)}; {_cure(missing, folder, file)}'
        )
    return errors


def _names_in(folder: str) -> Set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def _cure(missing: List[str], folder: str, file: CocoFile) -> str:
    """Say what to do, from what the folder has instead."""
    found = [
        os.path.relpath(os.path.join(parent, name), folder)
        for parent, _, names in os.walk(folder)
        for name in names
    ]
    name = missing[0]
    for other in found:
        if other.lower() == name.lower():
            return f'{other!r} is there: upper and lower case differ'
    base = name.rpartition('/')[2]
    elsewhere = [path for path in found if os.path.basename(path) == base]
    if len(elsewhere) == 1:
        parent = os.path.dirname(elsewhere[0]) or '.'
        prefix = os.path.dirname(name)
        if not prefix:
            return (
                f'{base} is in {os.path.join(folder, parent)}: set '
                'data_prefix.img to it'
            )
        return (
            f'{base} is in {os.path.join(folder, parent)}: {_CLEAN} writes '
            'the names as they are'
        )
    if elsewhere:
        return (
            f'several files are called {base}: {some_of(elsewhere, 3)}; write '
            'their folders into file_name'
        )
    if len(missing) == len(file.images):
        return (
            'set the folder by `--cfg-options data_root=...`, or '
            'data_prefix.img of the data set'
        )
    return f'copy them, or leave them out by {_CLEAN}'
