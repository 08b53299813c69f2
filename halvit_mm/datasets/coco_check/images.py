"""Checks of annotations against the image files."""

import os
from pathlib import Path
from typing import List, Optional, Tuple

from PIL import Image

from .file import CocoFile
from .findings import DataError, some_of
from .missing import CLEAN, missing_files

_ORIENTATION = 0x0112  # the EXIF tag
_TURNED = (5, 6, 7, 8)  # its values that exchange width and height


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
        return file.compared[key]
    errors = missing_files(file, folder)
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
    file.compared[key] = unreadable
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
        return f'{text}: exchange them ({CLEAN} does)'
    return f'{text}: the annotations are of another image or size'
