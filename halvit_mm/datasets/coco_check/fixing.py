"""Mending of what only a new annotation file can mend."""

import json
import os
from pathlib import Path
from typing import Dict, List

from .file import CocoFile
from .images import decodes, image_size


def fix_images(
    file: CocoFile, folder: str, oriented: bool = True, decode: bool = False
) -> None:
    """Make the images of a file those of a folder.

    Names of another case or folder are corrected where one file has that
    name, exchanged sizes are turned back; other images that are missing or
    cannot be read are left out with their objects.

    Args:
        file: The annotations, changed; notes what was done.
        folder: Folder of the images.
        oriented: Whether sizes are those that EXIF gives.
        decode: Whether images are decoded, which finds cut files.
    """
    there = _names_by_base(folder)
    renamed, turned, gone = [], [], []
    for image in file.images:
        name = image['file_name']
        if not Path(folder, name).is_file():
            found = there.get(os.path.basename(name).lower(), [])
            if len(found) != 1:
                gone.append(image['id'])
                continue
            image['file_name'] = found[0]
            renamed.append(image['id'])
        path = Path(folder, image['file_name'])
        size = image_size(path, oriented)
        here = image['width'], image['height']
        if size is None or (decode and not decodes(path)):
            gone.append(image['id'])
        elif size != here and size == here[::-1]:
            image['width'], image['height'] = size
            turned.append(image['id'])
    for ids, what in (
        (renamed, 'file names as the folder has them'),
        (turned, 'width and height exchanged'),
        (gone, 'left out images that are missing or cannot be read'),
    ):
        if ids:
            file.findings.mend(what, ids)
    left_out = set(gone)
    content = file.content
    content['images'] = [i for i in file.images if i['id'] not in left_out]
    content['annotations'] = [
        a for a in file.annotations if a['image_id'] not in left_out
    ]


def _names_by_base(folder: str) -> Dict[str, List[str]]:
    """List files by name, in lower case, as paths below a folder."""
    found: Dict[str, List[str]] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.relpath(os.path.join(parent, name), folder)
            found.setdefault(name.lower(), []).append(path)
    return found


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
    text = json.dumps(file.content, ensure_ascii=False, allow_nan=False)
    Path(path).write_text(text, encoding='utf-8')
