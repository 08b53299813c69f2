"""Checks of annotations against the image files."""

import os
from pathlib import Path
from typing import BinaryIO, List, NamedTuple, Optional, Tuple

from PIL import Image

from .file import CocoFile
from .findings import DataError, some_of
from .missing import CLEAN, missing_files

_ORIENTATION = 0x0112  # the EXIF tag
_TURNED = (5, 6, 7, 8)  # its values that exchange width and height
# What files end with, but for what some cameras add: looked for in the last
# bytes. MPO is a JPEG of several pictures.
_ENDS = {'JPEG': b'\xff\xd9', 'MPO': b'\xff\xd9', 'PNG': b'IEND'}
_TAIL = 4096


class Header(NamedTuple):
    """What an image file says of itself before it is decoded."""

    size: Tuple[int, int]  # width, height in pixels
    is_deep: bool  # integers of more than 8 bits
    has_end: bool  # the mark of the format's end, where it has one


def read_header(path: Path, oriented: bool = True) -> Optional[Header]:
    """Read the header and the last bytes of an image file.

    Args:
        path: Image file.
        oriented: Whether the EXIF orientation is followed, as loaders do.

    Returns:
        What they say; None if they cannot be read.
    """
    try:
        with Image.open(path) as image:
            size = image.size
            # Of a PNG without the entry, Pillow would decode all pixels.
            has_exif = image.format != 'PNG' or 'exif' in image.info
            exif = image.getexif() if oriented and has_exif else {}
            if exif.get(_ORIENTATION) in _TURNED:
                size = size[::-1]
            # colours of 16 bits become 8 in Pillow: only the decoder's
            # arguments, after its name, place and offset, tell them
            stored = f'{image.mode} {[tile[3] for tile in image.tile[:1]]}'
            is_deep = stored.startswith('I') or ';16' in stored
            mark = _ENDS.get(image.format)
            has_end = mark is None or _ends_with(image.fp, mark)
            return Header(size, is_deep, has_end)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _ends_with(file: BinaryIO, mark: bytes) -> bool:
    start = max(0, os.fstat(file.fileno()).st_size - _TAIL)
    # from the end, where it is nearly always
    return os.pread(file.fileno(), _TAIL, start).rfind(mark) >= 0


def image_size(path: Path, oriented: bool = True) -> Optional[Tuple[int, int]]:
    """Width and height as :func:`read_header` reads them."""
    header = read_header(path, oriented)
    return header and header.size


def is_readable(path: Path, header: Optional[Header], decode: bool) -> bool:
    """Whether an image can be read, as far as that is looked at.

    Args:
        path: Image file.
        header: What :func:`read_header` has returned.
        decode: Whether it is decoded in any case, and not only in doubt: a
            file that lacks its end is cut, or some program added to it.
    """
    if header is None:
        return False
    return not decode and header.has_end or _decodes(path)


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
        decode: Whether images are decoded, which finds broken pixels.

    Returns:
        Ids of images that cannot be read, which is a warning. Those of more
        than 8 bits are noted in ``file.deep_images``.

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
    unreadable, misfits, file.deep_images = [], [], []
    for image in file.images[::step]:
        path = Path(folder, image['file_name'])
        header = read_header(path, oriented)
        if not is_readable(path, header, decode):
            unreadable.append(image['id'])
            continue
        if header.is_deep:
            file.deep_images.append(image['id'])
        if header.size != (image['width'], image['height']):
            misfits.append(
                _describe_misfit(image, path, header.size, oriented)
            )
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


def _decodes(path: Path) -> bool:
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
