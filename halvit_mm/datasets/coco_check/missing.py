"""Image files that are not there, and what may be meant instead."""

import os
import unicodedata
from pathlib import Path
from typing import Dict, List, Set
from urllib.parse import unquote, urlsplit

from .file import CocoFile
from .findings import DataError, some_of

_IMAGES = '.jpg .jpeg .png .bmp .tif .tiff .webp'.split()
CLEAN = 'tools/dataset_converters/check_dataset.py ANN IMAGES --fix OUT'


def name_key(name: str) -> str:
    """Write a file name as it is compared, without its folder.

    Exporters change upper and lower case, add spaces and write addresses;
    and systems differ in how they store letters with accents.
    """
    if '://' in name:
        name = unquote(urlsplit(name).path)
    base = name.rpartition('/')[2]
    return unicodedata.normalize('NFC', base).strip().casefold()


def names_by_key(folder: str) -> Dict[str, List[str]]:
    """List files, as paths below a folder, by their keys.

    Images are listed by their keys without the ending as well.
    """
    found: Dict[str, List[str]] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.relpath(os.path.join(parent, name), folder)
            key = name_key(name)
            found.setdefault(key, []).append(path)
            stem, ending = os.path.splitext(key)
            if ending in _IMAGES:
                found.setdefault(stem, []).append(path)
    return found


def like(name: str, there: Dict[str, List[str]]) -> List[str]:
    """Find the files that a name may mean: the same but for its ending."""
    key = name_key(name)
    return there.get(key) or there.get(os.path.splitext(key)[0], [])


def leaves(folder: str, name: str) -> bool:
    """Whether a file name leads to a file outside of a folder."""
    is_odd = os.path.isabs(name) or '..' in name.split('/')
    if not is_odd or '\0' in name:  # of which there is no file
        return False
    full = os.path.realpath(os.path.join(folder, name))
    is_below = Path(full).is_relative_to(os.path.realpath(folder))
    return not is_below and os.path.exists(full)


def require_below(file: CocoFile, folder: str) -> None:
    """Refuse names of files outside of the image folder.

    Raises:
        DataError: If there are any.
    """
    if found := _leaving(file, folder):
        raise DataError(file.path, found)


def _leaving(file: CocoFile, folder: str) -> List[str]:
    names = [i['file_name'] for i in file.images]
    names = [name for name in names if leaves(folder, name)]
    if not names:
        return []
    return [
        f'{len(names)} file names leave the folder {folder}: '
        f'{some_of(names)}; set data_prefix.img to a folder above all of '
        'them, or the folder that the tool is given'
    ]


def missing_files(file: CocoFile, folder: str) -> List[str]:
    """Describe the files that are not there, with a cure for each kind."""
    there: Dict[str, Set[str]] = {}
    missing = []
    for image in file.images:
        name = image['file_name']
        if leaves(folder, name):
            continue
        parent, _, base = name.rpartition('/')
        if parent not in there:
            there[parent] = _names_in(os.path.join(folder, parent))
        if base not in there[parent]:
            missing.append(name)
    errors = _leaving(file, folder)
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
    name, there = missing[0], names_by_key(folder)
    found = like(name, there)
    base = name.rpartition('/')[2]
    if len(found) > 1:
        return (
            f'several files are called {base}: {some_of(found, 3)}; write '
            'their folders into file_name'
        )
    if found:
        parent, other = os.path.split(found[0])
        if other == name and parent:
            where = os.path.join(folder, parent)
            return f'{base} is in {where}: set data_prefix.img to it'
        reason = _difference(base, other)
        return (
            f'{found[0]!r} is there{reason}: {CLEAN} writes the names as they '
            'are'
        )
    if len(missing) == len(file.images):
        return (
            'set the folder by `--cfg-options data_root=...`, or '
            'data_prefix.img of the data set'
        )
    return f'copy them, or leave them out by {CLEAN}'


def _difference(name: str, other: str) -> str:
    """Say how two file names of one key or stem differ."""
    if name == other or '://' in name:
        return ''
    if name.casefold() == other.casefold():
        return ' (upper and lower case differ)'
    forms = [unicodedata.normalize('NFC', x) for x in (name, other)]
    if forms[0] == forms[1]:
        return ' (it looks the same, but its accents are stored otherwise)'
    return ''
