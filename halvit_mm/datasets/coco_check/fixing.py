"""Mending of what only a new annotation file can mend."""

import json
import os
from pathlib import Path

from .file import CocoFile
from .images import is_readable, read_header
from .missing import leaves, like, names_by_key


def fix_images(
    file: CocoFile, folder: str, oriented: bool = True, decode: bool = False
) -> None:
    """Make the images of a file those of a folder.

    Names of another case, folder or ending are corrected where one file has
    that name, exchanged sizes are turned back; other images that are missing
    or cannot be read are left out with their objects.

    Args:
        file: The annotations, changed; notes what was done.
        folder: Folder of the images.
        oriented: Whether sizes are those that EXIF gives.
        decode: Whether images are decoded, which finds broken pixels.
    """
    there = names_by_key(folder)
    renamed, turned, gone = [], [], []
    for image in file.images:
        name = image['file_name']
        if leaves(folder, name) or not Path(folder, name).is_file():
            found = like(name, there)
            if len(found) != 1:
                gone.append(image['id'])
                continue
            image['file_name'] = found[0]
            renamed.append(image['id'])
        path = Path(folder, image['file_name'])
        header = read_header(path, oriented)
        here = image['width'], image['height']
        if not is_readable(path, header, decode):
            gone.append(image['id'])
        elif header.size != here and header.size == here[::-1]:
            image['width'], image['height'] = header.size
            turned.append(image['id'])
    for ids, what in (
        (renamed, 'file names as the folder has them'),
        (turned, 'width and height exchanged'),
        (gone, 'left out images that are missing or cannot be read'),
    ):
        if ids:
            file.findings.mend(what, ids)
    left_out = set(gone)
    file.compared.clear()  # with the folder, before this
    content = file.content
    content['images'] = [i for i in file.images if i['id'] not in left_out]
    content['annotations'] = [
        a for a in file.annotations if a['image_id'] not in left_out
    ]


def write_coco(file: CocoFile, path: str) -> None:
    """Write the mended annotations to a new file.

    Args:
        file: The annotations.
        path: File to write.

    Raises:
        ValueError: If it is the file that was read.
    """
    if os.path.realpath(path) == os.path.realpath(file.path):
        raise ValueError(f'{path} is the file that is read: name another one')
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    content = file.content
    if file.has_constants:  # JSON has none: null, where nothing reads them
        content = json.loads(
            json.dumps(content), parse_constant=lambda name: None
        )
    text = json.dumps(content, ensure_ascii=False, allow_nan=False)
    Path(path).write_text(text, encoding='utf-8')
