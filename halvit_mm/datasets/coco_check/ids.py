"""Checks of ids, of what refers to them, and of names."""

from collections import Counter
from typing import Dict, List

import numpy as np

from .file import CocoFile
from .findings import some_of
from .values import MAX_ID, read_id


def check_ids(file: CocoFile) -> None:
    """Make all ids whole numbers that differ.

    Evaluators take an annotation of the id 0 for unmatched, and only the last
    of a repeated id exists for them.
    """
    for name, reference in (
        ('images', 'image_id'),
        ('categories', 'category_id'),
    ):
        _check_owners(file, name, reference)
    found = file.column('id')
    whole = set(map(type, found)) <= {int}
    if (
        not whole
        or len(set(found)) < len(found)
        or min(found, default=1) < 1
        or max(found, default=1) > MAX_ID
    ):
        counts = Counter(map(str, found))
        bad = [
            i
            for i in found
            if type(i) is not int or not 0 < i <= MAX_ID or counts[str(i)] > 1
        ]
        for number, annotation in enumerate(file.annotations, 1):
            annotation['id'] = number
        file.findings.mend(
            'annotation ids that were 0, missing, repeated, too large or no '
            'numbers; all annotations are numbered anew',
            bad,
        )


def _check_owners(file: CocoFile, name: str, reference: str) -> None:
    """Check the ids of images or categories and what refers to them."""
    items = file.content[name]
    keys = [read_id(item.get('id')) for item in items]
    missing = [item for item, key in zip(items, keys) if key is None]
    if missing:
        file.findings.error(
            f'{len(missing)} of {len(items)} {name} have no id, such as '
            f'{str(missing[0])[:99]}'
        )
        return
    if any(isinstance(key, str) or not 0 <= key <= MAX_ID for key in keys):
        numbers = {key: n for n, key in enumerate(dict.fromkeys(keys), 1)}
    else:
        numbers = {key: key for key in keys}
    changed = [x['id'] for x, k in zip(items, keys) if x['id'] != numbers[k]]
    if changed or set(map(type, (x['id'] for x in items))) != {int}:
        for item, key in zip(items, keys):
            item['id'] = numbers[key]
        file.findings.mend(
            f'ids of {name} that are no whole numbers from 0 to 2^53',
            changed or keys,
        )
    _check_repeated(file, name)
    _make_references_whole(file, reference, numbers if changed else {})


def _check_repeated(file: CocoFile, name: str) -> None:
    items = file.content[name]
    first: Dict[int, dict] = {}
    same: List[int] = []
    for item in items:
        other = first.setdefault(item['id'], item)
        if other is item:
            continue
        if other == item:
            same.append(item['id'])
            continue
        key = 'file_name' if name == 'images' else 'name'
        file.findings.error(
            f'the id {item["id"]} belongs to two {name}, {other.get(key)!r} '
            f'and {item.get(key)!r}: give each its own'
        )
        return
    if same:
        file.content[name] = list(first.values())
        file.findings.mend(f'{name} that are listed twice', same)


def _make_references_whole(file: CocoFile, name: str, numbers: dict) -> None:
    found = file.column(name)
    if not numbers and set(map(type, found)) <= {int}:
        return
    changed = []
    for annotation, value in zip(file.annotations, found):
        key = read_id(value)
        annotation[name] = numbers.get(key, key)
        if annotation[name] != value or type(value) is not int:
            changed.append(annotation.get('id'))
    if changed and not numbers:  # else it is said of what they refer to
        file.findings.mend(
            f'annotations whose {name} was no whole number', changed
        )


def check_categories(file: CocoFile) -> None:
    """Ask for one name per class, and leave an exporter's root out."""
    for category in file.categories:
        for key in ('name', 'supercategory'):
            if type(category.get(key)) in (int, float, list):
                category[key] = str(category[key])
    findings, names = file.findings, [c.get('name') for c in file.categories]
    if not all(isinstance(name, str) and name.strip() for name in names):
        findings.error(f'classes without a name: {names[:9]}')
        return
    used = set(file.column('category_id'))
    parents = [c.get('supercategory') for c in file.categories]
    parents = {name for name in parents if isinstance(name, str)}
    # A well-known exporter writes the project's name as a first category.
    roots = [
        c
        for c in file.categories
        if c['id'] not in used
        and c['name'] in parents
        and c.get('supercategory') in (None, '', 'none')
    ]
    if len(roots) == 1 and len(names) > 1:
        file.categories.remove(roots[0])
        findings.mend(
            f'left out the category {roots[0]["name"]!r}, which is only the '
            'parent of the others',
            [roots[0]['id']],
        )
    counts = Counter(c['name'] for c in file.categories)
    if repeated := [name for name, count in counts.items() if count > 1]:
        findings.error(
            f'several categories are called {some_of(repeated)}: give each '
            'another name, or make them one'
        )
    counts = Counter(name.strip().casefold() for name in counts)
    if alike := [name for name, count in counts.items() if count > 1]:
        findings.warn(
            'classes differ only by upper and lower case or spaces, and are '
            f'apart: {some_of(alike)}'
        )
    empty = [c['name'] for c in file.categories if c['id'] not in used]
    if empty and file.annotations:
        findings.warn(f'{len(empty)} classes have no object: {some_of(empty)}')


def check_references(file: CocoFile) -> None:
    """Leave out annotations of unknown images and categories."""
    for name, items in (
        ('image_id', file.images),
        ('category_id', file.categories),
    ):
        known = {item['id'] for item in items}
        found = file.column(name)
        if known.issuperset(found):
            continue
        rows = np.array([value not in known for value in found])
        if rows.all():
            file.findings.error(
                f'no {name} of the annotations exists: they are '
                f'{some_of(sorted(set(map(str, found))))}, the file has '
                f'{some_of(sorted(known))}'
            )
            return
        values = sorted({str(v) for v in found if v not in known})
        file.drop(rows, f'of an unknown {name} ({some_of(values)})')


def check_file_names(file: CocoFile) -> None:
    """Ask for a file name of each image; backslashes become slashes."""
    names = [image.get('file_name') for image in file.images]
    bad = [
        image['id']
        for image, name in zip(file.images, names)
        if not (isinstance(name, str) and name)
    ]
    if bad:
        file.findings.error(
            f'{len(bad)} images have no file_name: ids {some_of(bad)}'
        )
        return
    changed = []
    for image, name in zip(file.images, names):
        if '\\' in name:
            image['file_name'] = name.replace('\\', '/')
            changed.append(image['id'])
    if changed:
        file.findings.mend('backslashes in file names', changed)
    counts = Counter(image['file_name'] for image in file.images)
    if repeated := [name for name, count in counts.items() if count > 1]:
        file.findings.warn(
            f'{len(repeated)} file names belong to several images, whose '
            f'objects are apart then: {some_of(repeated)}'
        )
